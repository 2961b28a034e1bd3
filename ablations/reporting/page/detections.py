"""A few validation images with the truth and what every cell finds on them."""

import base64
import contextlib
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ablations.analysis.study import Study
from ablations.reporting.sections.section import one_line
from ablations.reporting.validation_images import (
    chosen_images,
    images_folder,
    validation_truth,
)
from ablations.store.arrays import read_arrays
from ablations.store.record import PREDICTION_COLUMNS, PREDICTIONS
from ablations.store.states import TrialState

IMAGES = 6
MOST_CELLS = 64
LONGEST_SIDE = 320  # pixels
LOWEST_SCORE = 0.05
MOST_BOXES = 40  # of a cell on an image, the highest scores


def detections_data(study: Study, labels: list[str]) -> dict[str, Any]:
    """``images`` (JPEG as a data address, size in its own pixels, true boxes), ``cells`` (label ->
    seed and, for each image, its boxes), ``classes``; ``note`` where they are left out. A box is
    x, y, width, height, class and, if it was detected, score."""
    trials = _one_trial_a_cell(study, labels)
    if not trials:
        return {"note": "No finished trial kept its predictions."}
    try:
        return _drawn(trials)
    except (ValueError, OSError, KeyError, IndexError) as error:  # damaged, or not COCO
        return {"note": f"Left out: {one_line(error)}."}


def _drawn(trials: list[TrialState]) -> dict[str, Any]:
    truth, folder = validation_truth(trials[0]), images_folder(trials[0])
    chosen = [] if truth is None or folder is None else chosen_images(truth, folder, IMAGES)
    if not chosen or truth is None or folder is None:
        return {
            "note": "Left out: the validation images that the trials were scored on are not at "
            "hand."
        }
    classes = {category["id"]: str(category["name"]) for category in truth["categories"]}
    for annotation in truth["annotations"]:  # one of a category that the file does not list
        number = annotation["category_id"]
        classes.setdefault(number, f"category {number}")
    order = {number: index for index, number in enumerate(classes)}
    images = []
    for image, pixels in chosen:
        own = [a for a in truth["annotations"] if a["image_id"] == image["id"]]
        boxes = [[*_tenths(a["bbox"]), order[a["category_id"]]] for a in own]
        images.append({**_picture(pixels), "truth": boxes})
    numbers = [image["id"] for image, _ in chosen]
    return {
        "classes": list(classes.values()),
        "images": images,
        "cells": _cells(trials, numbers, order),
    }


def _one_trial_a_cell(study: Study, labels: list[str]) -> list[TrialState]:
    """Of each cell the finished trial of the lowest seed that kept its predictions."""
    first: dict[str, TrialState] = {}
    wanted = set(labels)
    for state in sorted(study.records, key=lambda state: state.entry.seed):
        label = state.entry.label
        if label not in wanted or label in first or state.state != "finished":
            continue
        if (state.folder / PREDICTIONS).is_file():
            first[label] = state
    kept = [first[label] for label in labels if label in first]
    own = [state for state in kept if state.entry.label == study.baseline]
    return (own + [state for state in kept if state not in own])[:MOST_CELLS]


def _picture(pixels: NDArray[np.uint8]) -> dict[str, Any]:
    image = Image.fromarray(pixels)
    width, height = image.size
    image.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=80)
    code = base64.b64encode(stream.getvalue()).decode("ascii")
    return {"width": width, "height": height, "jpeg": f"data:image/jpeg;base64,{code}"}


def _cells(
    trials: list[TrialState], images: list[int], order: dict[int, int]
) -> dict[str, dict[str, Any]]:
    """By label; a trial whose predictions cannot be read is left out."""
    cells = {}
    for state in trials:
        with contextlib.suppress(ValueError, KeyError, IndexError):
            boxes = _found(state, images, order)
            cells[state.entry.label] = {"seed": state.entry.seed, "boxes": boxes}
    return cells


def _found(state: TrialState, images: list[int], order: dict[int, int]) -> list[list[list[float]]]:
    arrays = read_arrays(state.folder / PREDICTIONS, PREDICTION_COLUMNS)
    return [_boxes(arrays, number, order) for number in images]


def _boxes(arrays: dict[str, NDArray[Any]], image: int, order: dict[int, int]) -> list[list[float]]:
    kept = np.flatnonzero((arrays["image_id"] == image) & (arrays["score"] >= LOWEST_SCORE))
    kept = kept[np.argsort(-arrays["score"][kept], kind="stable")][:MOST_BOXES]
    return [
        [
            *_tenths(arrays["bbox"][index]),
            order[int(arrays["category_id"][index])],
            round(float(arrays["score"][index]), 3),
        ]
        for index in kept
    ]


def _tenths(box: Any) -> list[float]:
    return [round(float(value), 1) for value in box]
