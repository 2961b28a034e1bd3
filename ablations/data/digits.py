"""The embedded data set: handwritten digits pasted on photographs, in COCO format.

Everything comes from images inside installed packages: scikit-learn's 1,797 handwritten digits
(8 x 8 pixels, ten classes) and the photographs in scikit-image's, scikit-learn's and matplotlib's
wheels. No digit and no photograph is shared by train and val. The images follow from ``VERSION``
alone: every image has a random generator of its own, seeded by version, split and number.

Images of one photograph are not independent. The annotations say which belong together: an image's
``group`` is its photograph. An object's ``digit`` is its number among scikit-learn's digits.
"""

import hashlib
import json
import os
import shutil
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

VERSION = 2
IMAGE_SIZE = 96  # pixels, square
SPLITS = {"train": 8000, "val": 1000}  # images
CLASSES = tuple(str(digit) for digit in range(10))
GLYPH_SIZES = (24.0, 60.0)  # side of the pasted 8 x 8 glyph in pixels, log-uniform
EMPTY = 0.0  # share of images without a digit
MAX_DIGITS = 3  # 1 to 3 digits on each of the others
MIN_CONTRAST = 110  # grey levels in the channel where digit and background differ most
MAX_OVERLAP = 0.1  # of the smaller box's area
VAL_DIGITS = 360
DIGITS_SEED = 1  # of the digits' split

# Where a package keeps its photographs.
FOLDERS = {
    "matplotlib": "mpl-data/sample_data",
    "skimage": "data",
    "sklearn": "datasets/images",
}

# The photographs of these packages but for pictures of text, whose letters would be objects without
# a label, and the right half of the stereo pair whose left half is here.
PHOTOS = {
    "train": (
        "skimage/astronaut.png",
        "skimage/brick.png",
        "skimage/chelsea.png",
        "skimage/clock_motion.png",
        "skimage/grass.png",
        "skimage/hubble_deep_field.jpg",
        "skimage/ihc.png",
        "skimage/moon.png",
        "skimage/motorcycle_left.png",
        "skimage/retina.jpg",
        "sklearn/china.jpg",
    ),
    "val": (
        "matplotlib/grace_hopper.jpg",
        "skimage/camera.png",
        "skimage/cell.png",
        "skimage/coffee.png",
        "skimage/coins.png",
        "skimage/gravel.png",
        "skimage/rocket.jpg",
        "sklearn/flower.jpg",
    ),
}

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Glyph:
    """A handwritten digit pasted on an image."""

    label: int  # which digit it is
    box: tuple[int, int, int, int]  # x, y, width, height in pixels
    digit: int  # its number among scikit-learn's


@dataclass(frozen=True)
class Composed:
    """An image without its pixels."""

    photo: str
    glyphs: list[Glyph]


def build(root: Path) -> str | None:
    """Make the data set in ``root`` unless it is there and whole.

    Args:
        root: folder for ``manifest.json``, ``annotations/{train,val}.json``, ``train/``, ``val/``.

    Returns:
        A line that says what was built and why; ``None`` when nothing had to be.
    """
    damage = damaged(root)
    if damage is None:
        return None
    draft = root.with_name(f".{root.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    _write(draft)
    shutil.rmtree(root, ignore_errors=True)
    draft.rename(root)
    images = ", ".join(f"{count} {split}" for split, count in SPLITS.items())
    return f"built the digits data set in {root} ({images} images): {damage}"


def damaged(root: Path) -> str | None:
    """What is wrong with the data set in ``root``, in a few words, or ``None`` if it is whole.

    Every annotation file is hashed; of the images the number, names and sizes are checked.
    """
    if not root.exists():
        return "there was none"
    try:
        manifest = json.loads((root / "manifest.json").read_text())
    except FileNotFoundError:
        return "its manifest was missing"
    except ValueError:
        return "its manifest was not valid JSON"
    if manifest.get("version") != VERSION:
        return f"it was version {manifest.get('version')}, not {VERSION}"
    for split, expected in manifest["splits"].items():
        annotations = root / "annotations" / f"{split}.json"
        if not annotations.is_file() or _sha256(annotations) != expected["annotations"]:
            return f"{annotations.name} was missing or damaged"
        if _sizes(root / split) != expected["bytes"]:
            return f"images in {split}/ were missing or damaged"
    return None


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _sizes(folder: Path) -> dict[str, int]:
    """File name -> bytes; empty where there is no such folder."""
    if not folder.is_dir():
        return {}
    return {entry.name: entry.stat().st_size for entry in sorted(folder.iterdir())}


def _write(root: Path) -> None:
    manifest: dict[str, Any] = {"name": "digits", "version": VERSION, "splits": {}}
    (root / "annotations").mkdir(parents=True)
    for split, count in SPLITS.items():
        (root / split).mkdir()
        shares = np.array_split(np.arange(count), os.cpu_count() or 1)
        with ProcessPoolExecutor(len(shares)) as pool:
            jobs = [pool.submit(_write_images, root / split, split, share) for share in shares]
            images = [image for job in jobs for image in job.result()]
        annotations = root / "annotations" / f"{split}.json"
        annotations.write_text(json.dumps(_coco(images)))
        manifest["splits"][split] = {
            "annotations": _sha256(annotations),
            "bytes": _sizes(root / split),
        }
    (root / "manifest.json").write_text(json.dumps(manifest))


def _write_images(
    folder: Path, split: str, numbers: NDArray[np.int64]
) -> list[tuple[str, Composed]]:
    """Write some images; returns each one's file name and what is on it."""
    import cv2

    written = []
    for number in numbers:
        image, composed = compose(split, int(number))
        name = f"{number:06d}.png"
        if not cv2.imwrite(str(folder / name), image):
            raise OSError(f"could not write {folder / name}")
        written.append((name, composed))
    return written


def compose(split: str, number: int) -> tuple[Image, Composed]:
    """One image, [IMAGE_SIZE, IMAGE_SIZE, 3] BGR, and what is on it.

    The photographs of a split take turns, so that each has the same share of its images.
    """
    rng = np.random.default_rng([VERSION, list(SPLITS).index(split), number])
    names = PHOTOS[split]
    name = names[number % len(names)]
    image = _background(_photo(name), rng)
    digits, opacities, labels = _digits(split)
    taken = np.zeros((IMAGE_SIZE, IMAGE_SIZE), bool)
    glyphs: list[Glyph] = []
    for _ in range(_count(rng)):
        choice = rng.integers(len(digits))
        mask = _glyph_mask(opacities[choice], rng)
        height, width = mask.shape
        x, y = rng.integers(IMAGE_SIZE - width + 1), rng.integers(IMAGE_SIZE - height + 1)
        window = np.s_[y : y + height, x : x + width]
        if taken[window].sum() > MAX_OVERLAP * height * width:
            continue
        taken[window] = True
        colour, opacity = _colour(image[window], rng), rng.uniform(0.85, 1.0)
        weight = (opacity * mask)[..., None]
        image[window] = np.rint(weight * colour + (1 - weight) * image[window])
        box = (int(x), int(y), width, height)
        glyphs.append(Glyph(int(labels[choice]), box, int(digits[choice])))
    return image, Composed(Path(name).stem, glyphs)


def _count(rng: np.random.Generator) -> int:
    """How many digits an image gets, if they find a place."""
    if rng.random() < EMPTY:
        return 0
    return int(rng.integers(1, MAX_DIGITS + 1))


def _colour(background: Image, rng: np.random.Generator) -> NDArray[np.int64]:
    """A random BGR colour that stands out from the background's mean."""
    mean = background.mean((0, 1))
    while True:
        colour = rng.integers(0, 256, 3)
        if np.abs(colour - mean).max() >= MIN_CONTRAST:
            return colour


def _background(photo: Image, rng: np.random.Generator) -> Any:
    """A random crop between one and three image sizes wide, scaled to the image's size."""
    import cv2

    side = min(int(rng.uniform(1, 3) * IMAGE_SIZE), *photo.shape[:2])
    y = rng.integers(photo.shape[0] - side + 1)
    x = rng.integers(photo.shape[1] - side + 1)
    crop = photo[y : y + side, x : x + side]
    return cv2.resize(crop, (IMAGE_SIZE, IMAGE_SIZE), interpolation=cv2.INTER_AREA)


def _glyph_mask(glyph: NDArray[np.float32], rng: np.random.Generator) -> Any:
    """The glyph's opacity at a random size, cut to the pixels that can be seen."""
    import cv2

    low, high = np.log(GLYPH_SIZES)
    size = int(np.exp(rng.uniform(low, high)))
    mask = np.clip(cv2.resize(glyph, (size, size), interpolation=cv2.INTER_CUBIC), 0, 1)
    rows, columns = np.nonzero((mask > 0.3).any(1))[0], np.nonzero((mask > 0.3).any(0))[0]
    return mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def split_digits(split: str) -> NDArray[np.int64]:
    """Which of scikit-learn's handwritten digits a split may use."""
    from sklearn.datasets import load_digits

    order = np.random.default_rng(DIGITS_SEED).permutation(len(load_digits().target))
    return order[:VAL_DIGITS] if split == "val" else order[VAL_DIGITS:]


@cache
def _digits(split: str) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int64]]:
    """The digits of a split: numbers [N], opacities [N, 8, 8] in [0, 1] and classes [N]."""
    from sklearn.datasets import load_digits

    digits, chosen = load_digits(), split_digits(split)
    opacities = np.clip(digits.images[chosen] / 12, 0, 1).astype(np.float32)
    return chosen, opacities, digits.target[chosen]


@cache
def _photo(name: str) -> Any:
    """A photograph, BGR, read from the package that ships it."""
    import cv2

    package, file = name.split("/")
    spec = find_spec(package)  # matplotlib need not be imported for a photograph
    if spec is None or spec.origin is None:
        raise ImportError(f"{package}, which ships the photograph {file}, is not installed")
    photo = cv2.imread(str(Path(spec.origin).parent / FOLDERS[package] / file), cv2.IMREAD_COLOR)
    if photo is None:
        raise FileNotFoundError(f"{package} no longer ships the photograph {file}")
    return photo


def _coco(images: list[tuple[str, Composed]]) -> dict[str, Any]:
    """COCO's annotation dictionary; category ids run from 1."""
    annotations: list[dict[str, Any]] = []
    for image_id, (_, composed) in enumerate(images):
        for glyph in composed.glyphs:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": glyph.label + 1,
                    "bbox": list(glyph.box),
                    "area": glyph.box[2] * glyph.box[3],
                    "iscrowd": 0,
                    "digit": glyph.digit,
                }
            )
    size = {"width": IMAGE_SIZE, "height": IMAGE_SIZE}
    return {
        "info": {"description": f"digits on photographs, version {VERSION}"},
        "images": [
            {"id": image_id, "file_name": name, "group": composed.photo, **size}
            for image_id, (name, composed) in enumerate(images)
        ],
        "annotations": annotations,
        "categories": [{"id": i + 1, "name": name} for i, name in enumerate(CLASSES)],
    }
