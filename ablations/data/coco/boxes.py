"""The boxes of an annotation file, judged in one go: which can be trained on, which are refused."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ablations.data.coco.findings import Findings, counted

EDGE = 1.0  # px beyond the image's edge that are rounding
NORMALISED = 0.01  # of the boxes; as many within 0..1 are not pixels
CORNERS = 0.2  # of the boxes; as many beyond their image are corners, if they may be
FEW = 5  # boxes that say nothing about how the others were written

Where = Callable[[int], str]
"""Names the annotation of a row, in brackets."""


@dataclass(frozen=True)
class Judged:
    """Of N boxes: which are kept, and what they and their areas are now."""

    keep: NDArray[np.bool_]  # [N]
    boxes: NDArray[np.float64]  # [N, 4] x, y, w, h in pixels
    clipped: NDArray[np.bool_]  # [N]
    areas: NDArray[np.float64]  # [N]
    new_area: NDArray[np.bool_]  # [N]


def numbers(given: Sequence[Any], where: Where, findings: Findings) -> NDArray[np.float64] | None:
    """Boxes as an array [N, 4]; ``None`` if one of them is no box, which is refused."""
    four = set(map(type, given)) <= {list} and set(map(len, given)) <= {4}
    if four and set(map(type, chain.from_iterable(given))) <= {int, float}:
        boxes = _floats(list(chain.from_iterable(given))).reshape(-1, 4)
        bad = np.flatnonzero(~np.isfinite(boxes).all(axis=1))
        if not len(bad):
            return boxes
        findings.refuse(
            f"{counted(len(bad), 'box')} with NaN or infinity {where(int(bad[0]))}",
            "correct them or take them out",
        )
        return None
    _refuse_no_boxes(given, where, findings)
    return None


def _is_four(box: Any) -> bool:
    return type(box) is list and len(box) == 4


def _floats(values: Sequence[float]) -> NDArray[np.float64]:
    """Numbers as an array; an integer too large for a float is infinite."""
    try:
        return np.fromiter(values, np.float64, len(values))
    except OverflowError:
        return np.array([v if abs(v) < 1e300 else np.inf for v in values], dtype=np.float64)


def _refuse_no_boxes(given: Sequence[Any], where: Where, findings: Findings) -> None:
    missing = [row for row, box in enumerate(given) if box is None or box == []]
    absent = set(missing)
    shapeless = [row for row, box in enumerate(given) if row not in absent and not _is_four(box)]
    words = [
        row
        for row, box in enumerate(given)
        if _is_four(box) and not all(type(value) in (int, float) for value in box)
    ]
    for rows, what, mend in (
        (missing, "without bbox", "give each its box as [x, y, width, height]"),
        (shapeless, "whose bbox is not a list of four", "write [x, y, width, height]"),
        (words, "whose bbox holds what is no number", "write numbers, without quotes"),
    ):
        if rows:
            what = f"{counted(len(rows), 'annotation')} {what} {where(rows[0])}"
            findings.refuse(what, mend)


def areas_of(values: Sequence[Any]) -> NDArray[np.float64]:
    """Areas as an array [N]; NaN for what is no number."""
    if set(map(type, values)) <= {int, float}:
        return _floats(values)
    return _floats([v if type(v) in (int, float) else np.nan for v in values])


def from_polygons(segmentation: Any) -> list[float] | None:
    """The box around an annotation's polygons, or ``None`` where it has none."""
    if not isinstance(segmentation, list) or not all(isinstance(p, list) for p in segmentation):
        return None
    values = list(chain.from_iterable(segmentation))
    if len(values) < 6 or any(len(p) % 2 for p in segmentation):
        return None
    if not all(type(value) in (int, float) for value in values):
        return None
    xs = list(chain.from_iterable(p[::2] for p in segmentation))
    ys = list(chain.from_iterable(p[1::2] for p in segmentation))
    return [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]


def judge(
    boxes: NDArray[np.float64],
    size: NDArray[np.float64],
    declared: NDArray[np.float64],
    areas: NDArray[np.float64],
    train: bool,
    where: Where,
    findings: Findings,
) -> Judged:
    """Judge finite boxes against their images.

    Args:
        boxes: [N, 4] x, y, w, h in pixels.
        size: [N, 2] width and height of each one's image; infinite where it is not known.
        declared: [N, 2] the same as the annotation file says; NaN where it does not.
        areas: [N] as the file gives them; NaN where it does not.
        train: leave out what mmdet does not train on: boxes less than a pixel wide or high.
        where: names an annotation.
        findings: gets what is wrong and what was done.
    """
    low, high = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    beyond = _either((low < -EDGE) | (high > size + EDGE))
    empty = _either(boxes[:, 2:] <= 0)
    if not _are_pixels(boxes, size, beyond, empty, where, findings):
        every = np.ones(len(boxes), bool)
        return Judged(every, boxes, ~every, areas, ~every)
    _refuse_resized(low, high, size, declared, beyond & ~empty, where, findings)
    inside = np.concatenate([np.clip(low, 0, size), np.clip(high, 0, size)], axis=1)
    inside[:, 2:] -= inside[:, :2]
    outside = ~empty & _either(inside[:, 2:] <= 0)
    clipped = beyond & ~empty & ~outside
    now = np.where(clipped[:, None], inside, boxes)
    thin = ~empty & ~outside & _either(now[:, 2:] < 1) & train
    keep = ~(empty | outside | thin)
    clipped &= keep
    for rows, what in (
        (empty, "of no width or height left out"),
        (outside, "outside their image left out"),
        (thin, "less than a pixel wide or high left out"),
        (clipped, "reaching beyond their image cut at its edge"),
    ):
        if rows.any():
            at = int(np.flatnonzero(rows)[0])
            findings.mended(f"{counted(int(rows.sum()), 'box')} {what} {where(at)}")
    new_areas, changed = _areas(areas, boxes, now, keep, clipped, where, findings)
    return Judged(keep, now, clipped, new_areas, changed)


def _either(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """[N, 2] -> [N]: in x or in y."""
    return mask[:, 0] | mask[:, 1]


def _are_pixels(
    boxes: NDArray[np.float64],
    size: NDArray[np.float64],
    beyond: NDArray[np.bool_],
    empty: NDArray[np.bool_],
    where: Where,
    findings: Findings,
) -> bool:
    """Whether the boxes are x, y, w, h in pixels, and neither fractions nor corners."""
    number = len(boxes)
    unit = ~empty & ((boxes >= 0) & (boxes <= 1)).all(axis=1) & (size > 2).all(axis=1)
    if unit.sum() > NORMALISED * number:
        at = where(int(np.flatnonzero(unit)[0]))
        findings.refuse(
            f"{unit.sum():,} of {counted(number, 'box')} within 0..1 {at}: fractions, not pixels",
            "multiply x and width by the image's width, y and height by its height",
        )
        return False
    corners = ((boxes[:, 2:] > boxes[:, :2]) & (boxes[:, 2:] <= size + EDGE)).all(axis=1)
    if number >= FEW and corners.mean() > 1 - NORMALISED and beyond.mean() > CORNERS:
        at = where(int(np.flatnonzero(beyond)[0]))
        findings.refuse(
            f"{beyond.sum():,} of {counted(number, 'box')} beyond their image {at}, though they "
            "would fit as corners x1, y1, x2, y2",
            "write x, y, width, height",
        )
        return False
    return True


def _refuse_resized(
    low: NDArray[np.float64],
    high: NDArray[np.float64],
    size: NDArray[np.float64],
    declared: NDArray[np.float64],
    beyond: NDArray[np.bool_],
    where: Where,
    findings: Findings,
) -> None:
    """Boxes that fit the size that the annotation file gives, and not the image file's."""
    with np.errstate(invalid="ignore"):
        fits = ((low >= -EDGE) & (high <= declared + EDGE)).all(axis=1)
    drawn = np.flatnonzero(beyond & fits & (declared > size).any(axis=1))
    if len(drawn):
        at = int(drawn[0])
        (width, height), (w, h) = size[at], declared[at]
        findings.refuse(
            f"{counted(len(drawn), 'box')} beyond the image file's {width:g} x {height:g} pixels, "
            f"within the {w:g} x {h:g} that are given for it {where(at)}: drawn on another image",
            "resize the boxes to the image file, or put the right file there",
        )


def _areas(
    areas: NDArray[np.float64],
    boxes: NDArray[np.float64],
    now: NDArray[np.float64],
    keep: NDArray[np.bool_],
    clipped: NDArray[np.bool_],
    where: Where,
    findings: Findings,
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Areas in square pixels: the file's, or width times height where that is no area."""
    before, after = boxes[:, 2] * boxes[:, 3], now[:, 2] * now[:, 3]
    fractions = keep & (areas > 0) & (areas <= 1) & (after > 1)
    # COCO's area is the object's, not the box's: small ones are believed, unless all are.
    if fractions.sum() < keep.sum():
        fractions[:] = False
    with np.errstate(invalid="ignore"):
        bad = keep & (~(areas > 0) | ~np.isfinite(areas) | fractions)
        cut = clipped & ~bad & ((np.abs(areas - before) <= 1e-3 * before) | (areas > after))
    if bad.any():
        at = int(np.flatnonzero(bad)[0])
        findings.mended(
            f"{counted(int(bad.sum()), 'annotation')} without a usable area {where(at)}: "
            "width x height of the box"
        )
    return np.where(bad | cut, after, areas), bad | cut
