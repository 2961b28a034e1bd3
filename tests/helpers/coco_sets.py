"""COCO-format data sets of a few random images, for configs whose data is not available."""

import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np


def write_coco_set(
    root: Path,
    classes: Sequence[str],
    images: int = 6,
    size: tuple[int, int] = (96, 64),
    splits: dict[str, tuple[str, str]] | None = None,
) -> Path:
    """Write random images with a coloured box or two each; returns ``root``.

    Args:
        classes: names of the categories; every one of them is in the annotations.
        size: width and height in pixels.
        splits: split -> (annotation file, folder of images); by default what own_data.py expects.
    """
    rng = np.random.default_rng(0)
    default = {name: (f"annotations/{name}.json", name) for name in ("train", "val")}
    for annotations, folder in (splits or default).values():
        (root / folder).mkdir(parents=True)
        (root / annotations).parent.mkdir(parents=True, exist_ok=True)
        listed, boxes = [], []
        for number in range(1, images + 1):
            picture = rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
            for _ in range(2):
                x, y = (int(v) for v in rng.integers(0, [size[0] // 2, size[1] // 2]))
                w, h = (int(v) for v in rng.integers(20, [size[0] // 2, size[1] // 2]))
                category = int(rng.integers(len(classes)))
                picture[y : y + h, x : x + w] = rng.integers(0, 256, 3)
                boxes.append(
                    {
                        "id": len(boxes) + 1,
                        "image_id": number,
                        "category_id": category + 1,
                        "bbox": [x, y, w, h],
                        "area": w * h,
                        "iscrowd": 0,
                    }
                )
            name = f"{number:04d}.png"
            cv2.imwrite(str(root / folder / name), picture)
            listed.append({"id": number, "file_name": name, "width": size[0], "height": size[1]})
        named = [{"id": i + 1, "name": name} for i, name in enumerate(classes)]
        content = {"images": listed, "annotations": boxes, "categories": named}
        (root / annotations).write_text(json.dumps(content))
    return root
