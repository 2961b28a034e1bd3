"""The validation images that trials were scored on, where they are at hand."""

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ablations.store.files import read_json, sha256
from ablations.store.states import TrialState


def validation_truth(state: TrialState) -> dict[str, Any] | None:
    """The annotations that a trial was scored on, kept in the sweep's work directory."""
    record = state.record
    digest = record.data.get("val", {}).get("annotations") if record is not None else None
    return read_json(state.folder.parent.parent / f"annotations-{digest}.json")


def images_folder(state: TrialState) -> Path | None:
    """Where the validation images are, if they are still those that the trial was scored on."""
    validation = state.record.data.get("val", {}) if state.record is not None else {}
    folder, annotations = validation.get("images_dir"), validation.get("file")
    if not folder or not Path(folder).is_dir():
        return None
    if annotations and Path(annotations).is_file():
        source = validation.get("source", validation["annotations"])
        return Path(folder) if sha256(Path(annotations)) == source else None
    return None


def chosen_images(
    truth: dict[str, Any], folder: Path, most: int
) -> list[tuple[dict[str, Any], NDArray[np.uint8]]]:
    """The first ``most`` images with two objects or more that can be read, with their pixels
    [H, W, 3]."""
    counts = pd.Series([entry["image_id"] for entry in truth["annotations"]]).value_counts()
    several = set(counts[counts >= 2].index)
    chosen: list[tuple[dict[str, Any], NDArray[np.uint8]]] = []
    for image in sorted(truth["images"], key=lambda image: image["id"]):
        if len(chosen) == most:
            break
        if image["id"] in several and (folder / image["file_name"]).is_file():
            with contextlib.suppress(OSError, ValueError):  # a damaged one
                chosen.append((image, read_pixels(folder / image["file_name"])))
    return chosen


def read_pixels(path: Path) -> NDArray[np.uint8]:
    """The image as trials see it, uint8 [H, W, 3]: mmcv's decoder too is OpenCV, which turns an
    image by its EXIF orientation.

    Raises:
        ValueError: the file cannot be decoded.
    """
    import cv2  # a fifth of a second, where images are drawn alone

    pixels = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
    if pixels is None:
        raise ValueError(f"{path} cannot be decoded")
    return np.ascontiguousarray(pixels[:, :, ::-1])
