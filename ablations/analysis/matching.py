"""COCO's greedy matching of detections to objects, done once for each trial, as arrays.

The rules are those of pycocotools' ``COCOeval.evaluateImg`` for boxes. In an image and class,
detections are taken from the highest score to the lowest. Each gets the free object of highest IoU
at or above the threshold, and an object that counts before one that is ignored (a crowd, or outside
the area range). A detection without an object is false, unless its own area is outside the range.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask

from ablations.store.arrays import read_arrays
from ablations.store.files import read_json
from ablations.store.record import PREDICTION_COLUMNS

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
FLOOR = np.minimum(IOU_THRESHOLDS, 1 - 1e-10)
RECALL_THRESHOLDS = np.linspace(0.0, 1.0, 101)
Ranges = Sequence[tuple[float, float]]
"""Of areas in square pixels, both ends included."""
AREAS = ((0.0, 1e10), (0.0, 32.0**2), (32.0**2, 96.0**2), (96.0**2, 1e10))  # all, S, M, L
DETECTIONS = 100


@dataclass(frozen=True)
class Matches:
    """The detections of one trial, sorted by class and then by falling score.

    Equal scores are in the order of their images, then as stored.

    N detections, I images, K classes, A area ranges (COCO's 4), T = 10 IoU thresholds.
    """

    image_ids: NDArray[np.int64]  # [I], ascending
    category_ids: NDArray[np.int64]  # [K], ascending
    start: NDArray[np.int64]  # [K + 1]: class k is start[k]:start[k + 1]
    image: NDArray[np.int64]  # [N], index into image_ids
    in_range: NDArray[np.bool_]  # [A, N], by the detection's own area
    matched: NDArray[np.bool_]  # [A, T, N], to any object
    true: NDArray[np.bool_]  # [A, T, N], to an object that counts
    objects: NDArray[np.int32]  # [A, K, I], objects that count


def match_trial(
    annotations: Path,
    predictions: Path,
    classes: Sequence[str] = (),
    read: Callable[[Path], Any] = read_json,
    areas: Ranges = AREAS,
) -> Matches:
    """Match a trial's ``predictions.npz`` to a work directory's ``annotations-<sha256>.json``.

    Args:
        annotations: COCO annotations.
        predictions: ``record.PREDICTION_COLUMNS`` and ``image_ids``, the images that were scored.
        classes: names of the classes that count; all categories if empty.
        read: reads the annotations.
        areas: the area ranges.

    Raises:
        ValueError: a file is not what it should be; the message names it.
    """
    truth = read(annotations)
    if not isinstance(truth, dict) or not {"annotations", "categories"} <= set(truth):
        raise ValueError(f"{annotations} is missing or holds no COCO annotations")
    found = read_arrays(predictions, (*PREDICTION_COLUMNS, "image_ids"))
    kept = [c["id"] for c in truth["categories"] if not classes or c["name"] in classes]
    return match(truth["annotations"], found, found["image_ids"], kept, areas)


def match(
    annotations: list[dict[str, Any]],
    found: dict[str, NDArray[Any]],
    image_ids: Sequence[int] | NDArray[np.int64],
    category_ids: Sequence[int],
    areas: Ranges = AREAS,
) -> Matches:
    """Match detections to objects.

    Args:
        annotations: COCO's, each with id, image_id, category_id, bbox, area and maybe iscrowd.
        found: ``record.PREDICTION_COLUMNS``.
        image_ids: images that count.
        category_ids: classes that count.
        areas: the area ranges.
    """
    images = np.unique(np.asarray(image_ids, dtype=np.int64))
    categories = np.unique(np.asarray(category_ids, dtype=np.int64))
    objects = _objects(annotations, images, categories)
    detections = _detections(found, images, categories)
    ignored = objects.ignored(areas)
    matched = np.zeros((len(areas), len(IOU_THRESHOLDS), len(detections.image)), dtype=bool)
    true = np.zeros_like(matched)
    groups = {key: slice(*span) for key, span in _spans(detections.group).items()}
    for key, span in _spans(objects.group).items():
        if key in groups:
            mine, theirs = groups[key], slice(*span)
            matched[:, :, mine], true[:, :, mine] = _match_group(
                detections.bbox[mine],
                objects.bbox[theirs],
                objects.crowd[theirs],
                ignored[:, theirs],
                objects.counts_as_match[theirs],
            )
    order = np.lexsort((-detections.score, detections.category))
    counted = np.zeros((len(areas), len(categories), len(images)), dtype=np.int32)
    for number, out in enumerate(ignored):
        np.add.at(counted[number], (objects.category[~out], objects.image[~out]), 1)
    area = detections.bbox[order, 2] * detections.bbox[order, 3]
    return Matches(
        images,
        categories,
        np.searchsorted(detections.category[order], np.arange(len(categories) + 1)),
        detections.image[order],
        np.stack([(area >= low) & (area <= high) for low, high in areas]),
        matched[:, :, order],
        true[:, :, order],
        counted,
    )


@dataclass(frozen=True)
class _Boxes:
    """Boxes sorted by image and class (``group`` numbers the pairs); stable otherwise."""

    image: NDArray[np.int64]
    category: NDArray[np.int64]
    group: NDArray[np.int64]
    bbox: NDArray[np.float64]  # [N, 4]: x, y, w, h


@dataclass(frozen=True)
class _Detections(_Boxes):
    score: NDArray[np.float64]


@dataclass(frozen=True)
class _Objects(_Boxes):
    area: NDArray[np.float64]
    crowd: NDArray[np.bool_]
    counts_as_match: NDArray[np.bool_]

    def ignored(self, areas: Ranges) -> NDArray[np.bool_]:
        """[A, N]: crowds, and objects outside the area range."""
        outside = [(self.area < low) | (self.area > high) for low, high in areas]
        return np.stack(outside) | self.crowd


def _objects(
    annotations: list[dict[str, Any]], images: NDArray[np.int64], categories: NDArray[np.int64]
) -> _Objects:
    image_id = np.array([a["image_id"] for a in annotations], dtype=np.int64)
    category_id = np.array([a["category_id"] for a in annotations], dtype=np.int64)
    kept = np.flatnonzero(np.isin(image_id, images) & np.isin(category_id, categories))
    image = np.searchsorted(images, image_id[kept])
    category = np.searchsorted(categories, category_id[kept])
    group = category * len(images) + image
    order = np.argsort(group, kind="stable")
    chosen = [annotations[index] for index in kept[order]]
    return _Objects(
        image[order],
        category[order],
        group[order],
        np.array([a["bbox"] for a in chosen], dtype=np.float64).reshape(-1, 4),
        np.array([a["area"] for a in chosen], dtype=np.float64),
        np.array([bool(a.get("iscrowd", 0)) for a in chosen], dtype=bool),
        # pycocotools treats a match with id 0 as no match; this must equal pycocotools.
        np.array([a["id"] != 0 for a in chosen], dtype=bool),
    )


def _detections(
    found: dict[str, NDArray[Any]], images: NDArray[np.int64], categories: NDArray[np.int64]
) -> _Detections:
    """The boxes of the evaluated images and classes: the best ``DETECTIONS`` of each pair."""
    kept = np.flatnonzero(
        np.isin(found["image_id"], images) & np.isin(found["category_id"], categories)
    )
    image = np.searchsorted(images, found["image_id"][kept])
    category = np.searchsorted(categories, found["category_id"][kept])
    score = found["score"][kept].astype(np.float64)
    group = category * len(images) + image
    order = np.lexsort((-score, group))
    group = group[order]
    first = np.searchsorted(group, group)
    order = order[np.arange(len(group)) - first < DETECTIONS]
    return _Detections(
        image[order],
        category[order],
        (category * len(images) + image)[order],
        found["bbox"][kept[order]].astype(np.float64),
        score[order],
    )


def _spans(group: NDArray[np.int64]) -> dict[int, tuple[int, int]]:
    """Start and end of each value in a sorted array."""
    values, starts, sizes = np.unique(group, return_index=True, return_counts=True)
    ends = starts + sizes
    spans = zip(starts.tolist(), ends.tolist(), strict=True)
    return dict(zip(values.tolist(), spans, strict=True))


def _match_group(
    detections: NDArray[np.float64],
    objects: NDArray[np.float64],
    crowd: NDArray[np.bool_],
    ignored: NDArray[np.bool_],
    counts_as_match: NDArray[np.bool_],
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Match one image and class, for all area ranges and thresholds at once.

    Args:
        detections: [D, 4], best first.
        objects: [G, 4].
        crowd: [G].
        ignored: [A, G].
        counts_as_match: [G].

    Returns:
        matched and true, bool [A, T, D].
    """
    iou = mask.iou(detections, objects, crowd.astype(np.uint8))
    shape = len(ignored), len(IOU_THRESHOLDS)
    matched = np.zeros((*shape, len(detections)), dtype=bool)
    true = np.zeros_like(matched)
    free = np.ones((*shape, len(objects)), dtype=bool)
    preference = np.where(ignored, 0.0, 2.0)[
        :, None, :
    ]  # objects that count come before ignored ones
    last = len(objects) - 1
    area_index, threshold_index = np.arange(shape[0])[:, None], np.arange(shape[1])
    for index in np.flatnonzero(iou.max(axis=1) >= FLOOR[0]):
        row = iou[index]
        allowed = free & (row >= FLOOR[:, None])
        value = np.where(allowed, row + preference, -1.0)
        pick = last - value[:, :, ::-1].argmax(axis=2)  # the last of equal ones
        hit = allowed[area_index, threshold_index, pick]
        matched[:, :, index] = hit & counts_as_match[pick]
        true[:, :, index] = matched[:, :, index] & ~ignored[area_index, pick]
        free[area_index, threshold_index, pick] &= ~hit | crowd[pick]
    return matched, true
