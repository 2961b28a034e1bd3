"""An image's size as the decoder gives it, from the first bytes of its file.

The decoder is OpenCV (mmcv's default), which turns an image as its EXIF orientation says; in which
formats beside JPEG and PNG depends on its release, so such an image is decoded. JPEG and PNG are
read here: Pillow takes three times as long, which counts with a hundred thousand images; it reads
the others, and whatever is unusual.
"""

import os
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

Image.MAX_IMAGE_PIXELS = None  # the images are the user's own: a large one is no attack

ORIENTATION = 0x0112
_SIZES = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})  # JPEG's start of frame
_SEGMENT = struct.Struct(">BBH")
_BLOCK = 2048
_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD8)})


class _UnusualError(Exception):
    """Left to Pillow."""


@dataclass(frozen=True)
class Size:
    """Pixels of the decoded image; ``turned`` by 90 degrees from what is stored."""

    width: int
    height: int
    turned: bool = False


class _Bytes:
    """A file's bytes by their place. Most headers are within its first block: it is read once."""

    def __init__(self, file: int) -> None:
        self._file, self.start = file, os.read(file, _BLOCK)

    def take(self, at: int, number: int) -> bytes:
        """``number`` bytes from ``at`` on; fewer at the end of the file."""
        if at + number <= len(self.start):
            return self.start[at : at + number]
        return os.pread(self._file, number, at)


def image_size(path: str) -> Size:
    """The size of the image in ``path`` as it is decoded.

    Raises:
        OSError: the file cannot be read, or is no image.
    """
    file = os.open(path, os.O_RDONLY)  # without io's objects: half the time
    try:
        width, height, orientation = _known_size(_Bytes(file))
    except (_UnusualError, struct.error):
        width, height, orientation = _pillow_size(path)
    finally:
        os.close(file)
    turned = 5 <= orientation <= 8
    return Size(height, width, True) if turned else Size(width, height)


def _known_size(data: _Bytes) -> tuple[int, int, int]:
    start = data.start
    if start[:2] == b"\xff\xd8":
        return _jpeg_size(data)
    if start[:8] == b"\x89PNG\r\n\x1a\n" and start[12:16] == b"IHDR":
        return _png_size(data, *struct.unpack(">II", start[16:24]))
    raise _UnusualError


def _jpeg_size(data: _Bytes) -> tuple[int, int, int]:
    """Walk the segments to the frame's header; the orientation is in one before it."""
    orientation, at = 0, 2
    while True:
        mark, code, length = _SEGMENT.unpack(data.take(at, 4))
        if mark != 0xFF or code in _WITHOUT_LENGTH or code in (0xFF, 0xD9, 0xDA):
            raise _UnusualError
        if code in _SIZES:
            height, width = struct.unpack(">xHH", data.take(at + 4, 5))
            if not height:  # given at the image's end
                raise _UnusualError
            return width, height, orientation or 1
        if code == 0xE1 and not orientation:
            body = data.take(at + 4, length - 2)
            if body[:6] == b"Exif\0\0":
                orientation = _orientation(body[6:])
        at += 2 + length


def _png_size(data: _Bytes, width: int, height: int) -> tuple[int, int, int]:
    """Walk the chunks to the pixels; the orientation is in one before them, if anywhere."""
    at = 8
    while True:
        length, kind = struct.unpack(">I4s", data.take(at, 8))
        if kind == b"eXIf":
            return width, height, _orientation(data.take(at + 8, length))
        if kind in (b"IDAT", b"IEND"):
            return width, height, 1
        at += 12 + length


def _orientation(exif: bytes) -> int:
    """The orientation in EXIF data; 1, upright, where it has none."""
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        raise _UnusualError
    (at,) = struct.unpack(f"{order}I", exif[4:8])
    (entries,) = struct.unpack(f"{order}H", exif[at : at + 2])
    for start in range(at + 2, at + 2 + 12 * entries, 12):
        tag, kind, _, value = struct.unpack(f"{order}HHIH", exif[start : start + 10])
        if tag == ORIENTATION:
            if kind != 3:
                raise _UnusualError
            return int(value)
    return 1


def _pillow_size(path: str) -> tuple[int, int, int]:
    try:
        with Image.open(path) as image:
            width, height = image.size
            # The base class's: a PNG's own would decode the whole image.
            orientation = Image.Image.getexif(image).get(ORIENTATION, 1)
            if image.format == "TIFF":  # whose size Pillow may have turned already
                width, height = image.tag_v2[256], image.tag_v2[257]
            if not isinstance(orientation, int) or not 5 <= orientation <= 8:
                return width, height, 1
            if image.format not in ("JPEG", "PNG") and not _is_turned(path, width, height):
                return width, height, 1
            return width, height, orientation
    except OSError:
        raise
    except Exception as error:  # Pillow's readers raise what they like on damaged files
        raise OSError(f"{type(error).__name__}: {error}") from error


def _is_turned(path: str, width: int, height: int) -> bool:
    """Whether the decoder turns this image of ``width`` x ``height`` by 90 degrees."""
    image = decoded(path)
    return image is not None and image.shape[:2] == (width, height)


def decoded(path: str) -> Any:
    """The image as mmcv decodes it, [H, W, 3]; ``None``, or ``cv2.error``, if OpenCV cannot."""
    import cv2  # a fifth of a second, for formats that are rare

    return cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
