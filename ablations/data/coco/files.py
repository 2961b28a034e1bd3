"""Whether the images of an annotation file are there, how large they are, and whether they decode.

What is known of a good image is kept between runs, with its size in bytes and time of change.
"""

import contextlib
import hashlib
import json
import os
import stat
import time
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from ablations.data.coco.headers import Size, decoded, image_size

DECODING_S = 60.0  # all images are decoded where that takes no longer
SAMPLE = 500  # images to decode of more than that
_PROBE = 50  # images that tell how long all would take
_SAME_DECODERS = ("JPEG", "PNG", "BMP", "GIF", "WEBP")  # what Pillow decodes, OpenCV decodes too


@dataclass
class ImageFiles:
    """What was found; indices are into the paths."""

    sizes: list[Size | None]  # as decoded; None where that cannot be told
    missing: list[int] = field(default_factory=list)
    empty: list[int] = field(default_factory=list)
    damaged: dict[int, str] = field(default_factory=dict)  # index -> why
    decoded: int = 0  # images that were decoded to their end, now or in an earlier check
    all_s: float = 0.0  # seconds that decoding the rest would take


Known = dict[str, list[Any]]
"""Path -> bytes, nanoseconds of change, width, height, turned, decoded."""


def cache_folder() -> Path:
    """Where what is known of images is kept."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "loss-ablations" / "images"


def look_at(paths: Sequence[str], folder: Path, decode: bool | None = None) -> ImageFiles:
    """Look at image files.

    Args:
        paths: of the images.
        folder: that they are in; names the cache.
        decode: all of them, or none; by default all where that takes no longer than
            ``DECODING_S``, and else a sample.
    """
    named = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
    cache = cache_folder() / f"{named}.json"
    known = _load(cache)
    found = ImageFiles([None] * len(paths))
    good: Known = {}
    for index, path in enumerate(paths):
        stamp = _stamp(path)
        entry = known.get(path)
        if stamp is None:
            found.missing.append(index)
        elif not stamp[0]:
            found.empty.append(index)
        elif entry is not None and entry[:2] == stamp:
            good[path] = entry
            found.sizes[index] = Size(*entry[2:5])
        else:
            _read_size(index, path, stamp, found, good)
    new = any(known.get(path) is not entry for path, entry in good.items())
    new |= _decode(paths, found, good, decode)
    if new:
        _save(cache, known | good)
    return found


def _stamp(path: str) -> list[int] | None:
    """Bytes and time of change; ``None`` where there is no such file."""
    try:
        status = os.stat(path)  # noqa: PTH116 - twice as fast, a hundred thousand times
    except (OSError, ValueError):  # ValueError: a name with a NUL in it
        return None
    return [status.st_size, status.st_mtime_ns] if stat.S_ISREG(status.st_mode) else None


def _read_size(index: int, path: str, stamp: list[int], found: ImageFiles, good: Known) -> None:
    try:
        size = image_size(path)
    except OSError as error:
        found.damaged[index] = _why(error)
        return
    found.sizes[index] = size
    good[path] = [*stamp, size.width, size.height, size.turned, False]


def _decode(paths: Sequence[str], found: ImageFiles, good: Known, decode: bool | None) -> bool:
    """Decode what was not yet, as far as ``decode`` goes; whether any was."""
    open_ = [index for index, path in enumerate(paths) if path in good and not good[path][5]]
    found.decoded = len(good) - len(open_)
    if decode is False or not open_:
        return False
    order = np.random.default_rng(0).permutation(open_).tolist()
    probe, rest = order[:_PROBE], order[_PROBE:]

    def decode_all(indices: list[int]) -> float:
        started = time.monotonic()
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:  # decoders release the GIL
            reasons = pool.map(lambda index: _damage(paths[index]), indices)
            for index, reason in zip(indices, reasons, strict=True):
                if reason is None:
                    good[paths[index]][5] = True
                    found.decoded += 1
                else:
                    del good[paths[index]]
                    found.damaged[index] = reason
        return time.monotonic() - started

    per_image = decode_all(probe) / len(probe)
    if decode is None and per_image * len(rest) > DECODING_S:
        before = found.decoded + len(found.damaged)
        rest = rest[: max(0, SAMPLE - before)]
    found.all_s = per_image * (len(order) - len(probe) - len(rest))
    decode_all(rest)
    return True


def _damage(path: str) -> str | None:
    """Why an image does not decode to its end, or ``None``.

    Pillow is asked, since OpenCV fills up what a truncated file leaves out and says nothing. Both
    decode what they may read differently.
    """
    try:
        with Image.open(path) as image:
            if image.format == "JPEG":
                image.draft(image.mode, (1, 1))  # reads all of the file and computes an eighth
            image.load()
            both = image.format not in _SAME_DECODERS
    except UnidentifiedImageError:
        both = True
    except Exception as error:  # Pillow's decoders raise what they like on damaged files
        return _why(error)
    return "OpenCV cannot decode it" if both and not _opencv_decodes(path) else None


def _opencv_decodes(path: str) -> bool:
    import cv2

    with contextlib.suppress(cv2.error):
        return decoded(path) is not None
    return False


def _why(error: Exception) -> str:
    text = " ".join(str(error).split())
    return "not an image" if isinstance(error, UnidentifiedImageError) else text or "damaged"


def _load(cache: Path) -> Known:
    try:
        known = json.loads(cache.read_bytes())
        return known if isinstance(known, dict) else {}
    except (OSError, ValueError):
        return {}


def _save(cache: Path, known: Known) -> None:
    """Whole or absent; where that cannot be written, the next check looks again."""
    draft = cache.with_name(f".{cache.name}.{uuid.uuid4().hex[:8]}")
    with contextlib.suppress(OSError):
        cache.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(json.dumps(known), encoding="utf-8")
        draft.replace(cache)
