"""Time the check of annotation files of train2017's size, and its memory.

    python -m benchmarks.bench_annotations [--out reports/benchmarks/annotations.md]

Fabricates 118,000 images (links to a few JPEG files) and 860,000 boxes with polygons, as COCO's
file has them, and checks them in processes of their own. Some 2 GB of disk, for a minute or two.
"""

import argparse
import datetime
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from ablations.data.coco import COCO_CLASSES
from ablations.machine import description as machine

IMAGES, BOXES = 118_000, 860_000
VERTICES = 21  # of a polygon; with them the file is as large as COCO's
WIDTH, HEIGHT = 640, 480
PICTURES = 8  # files; a file system allows some ten thousand links to one
CHECK = """
import json, resource, sys, time
from pathlib import Path
from ablations.data.coco import COCO_CLASSES, Split, check, keep
file, folder, decode = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
start, busy = time.perf_counter(), time.process_time()
checked = check(Split(file, folder, train=True, classes=COCO_CLASSES, min_size=32), decode)
assert checked.error is None, checked.error
keep(checked, file.parent / "checked")
print(json.dumps({"s": time.perf_counter() - start, "cpu": time.process_time() - busy,
                  "gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
                  "boxes": checked.boxes, "notes": checked.notes}))
"""


def fabricate(folder: Path, polygons: bool) -> Path:
    """Annotations like COCO's for images that ``fabricate_images`` made; returns the file.

    Without polygons they are as they should be. With them one box has no width, as COCO's own file
    has some: the check writes all annotations anew.
    """
    rng = np.random.default_rng(0)
    images = [
        {
            "license": 3,
            "file_name": f"{number:012d}.jpg",
            "coco_url": f"http://images.cocodataset.org/train2017/{number:012d}.jpg",
            "height": HEIGHT,
            "width": WIDTH,
            "date_captured": "2013-11-14 11:18:45",
            "flickr_url": f"http://farm9.staticflickr.com/8186/{number:010d}_ebe3f9f9d4_z.jpg",
            "id": number,
        }
        for number in range(1, IMAGES + 1)
    ]
    categories = [number for number in range(1, 91) if number % 9][:80]  # with gaps, as COCO's
    sides = rng.uniform(8, 200, (BOXES, 2))
    corners = rng.uniform(0, [WIDTH - 200, HEIGHT - 200], (BOXES, 2))
    boxes = np.round(np.hstack([corners, sides]), 2).tolist()
    if polygons:
        boxes[1000][2] = 0.0
    owners = rng.integers(1, IMAGES + 1, BOXES).tolist()
    kinds = rng.choice(categories, BOXES).tolist()
    path = folder / "train.json"
    with path.open("w") as stream:
        stream.write('{"info": {}, "licenses": [], "images": ' + json.dumps(images))
        pairs = zip(categories, COCO_CLASSES, strict=True)
        names = [{"id": id, "name": name, "supercategory": ""} for id, name in pairs]
        stream.write(', "categories": ' + json.dumps(names) + ', "annotations": [')
        for number, (box, owner, kind) in enumerate(zip(boxes, owners, kinds, strict=True)):
            x, y, w, h = box
            outline = rng.uniform([x, y], [x + w, y + h], (VERTICES, 2)) if polygons else None
            entry = {
                "segmentation": [] if outline is None else [np.round(outline, 2).ravel().tolist()],
                "area": round(0.7 * w * h, 4),
                "iscrowd": 0,
                "image_id": owner,
                "bbox": box,
                "category_id": kind,
                "id": 100_000 + number,
            }
            stream.write((", " if number else "") + json.dumps(entry))
        stream.write("]}")
    return path


def fabricate_images(folder: Path) -> None:
    """``IMAGES`` names for a few JPEG files of COCO's size in pixels and bytes."""
    folder.mkdir()
    rng = np.random.default_rng(1)
    pictures = []
    for number in range(PICTURES):
        noise = rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        pictures.append(folder / f"original{number}.jpg")
        soft = cv2.GaussianBlur(noise, (0, 0), 1.2)
        cv2.imwrite(str(pictures[-1]), soft, [cv2.IMWRITE_JPEG_QUALITY, 95])
    for number in range(1, IMAGES + 1):
        os.link(pictures[number % PICTURES], folder / f"{number:012d}.jpg")


def measure(file: Path, images: Path, decode: bool | None, cache: Path) -> dict[str, float]:
    """Wall seconds, CPU seconds and peak memory (GB) of one check in a process of its own."""
    command = [sys.executable, "-c", CHECK, str(file), str(images), json.dumps(decode)]
    home = {
        **os.environ,
        "XDG_CACHE_HOME": str(cache),
        "PYTHONPATH": str(Path(__file__).parents[1]),
    }
    return json.loads(subprocess.check_output(command, text=True, env=home))


def report(rows: dict[str, tuple[float, dict[str, float]]]) -> str:
    """What was measured, as a page."""
    lines = [
        f"| {name} | {megabytes:,.0f} | {found['s']:.1f} | {found['cpu']:.1f} | {found['gb']:.2f} |"
        for name, (megabytes, found) in rows.items()
    ]
    today = datetime.datetime.now(datetime.timezone.utc)
    return f"""# The check of annotation files

Written by `python -m benchmarks.bench_annotations` on {today:%Y-%m-%d}, {machine()}.
Where other work ran at the same time, CPU seconds are to be read, not seconds.

{IMAGES:,} images and {BOXES:,} boxes, as many as COCO's train2017. Promised: 10 s and 2 GB.
Included are reading and hashing the file, the existence and header of every image, and writing and
hashing the checked file. Decoding images is apart: it takes as long as the images are large, and is
done for all of them only where that takes less than a minute. `again` knows the images from before.

| | MB | s | CPU s | peak GB |
| --- | ---: | ---: | ---: | ---: |
{chr(10).join(lines)}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("reports/benchmarks/annotations.md"))
    args = parser.parse_args()
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        fabricate_images(root / "images")
        for polygons, name in ((False, "boxes alone"), (True, "polygons, to be mended")):
            started = time.monotonic()
            file = fabricate(root, polygons)
            size = file.stat().st_size / 1e6
            print(f"{name}: {size:.0f} MB made in {time.monotonic() - started:.0f} s", flush=True)
            cache = root / f"cache-{polygons}"
            for again, decode in (("", False), (", again", False), (", a sample decoded", None)):
                found = measure(file, root / "images", decode, cache)
                rows[name + again] = size, found
                print(name + again, found, flush=True)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(report(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
