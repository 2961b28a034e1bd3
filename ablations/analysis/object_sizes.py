"""AP of small, medium and large objects, with bounds that fit the images.

COCO calls an object small below 32^2 square pixels and large above 96^2, and most of its images are
640 px long. The records' ``AP_S``, ``AP_M`` and ``AP_L`` keep these bounds for images of any size.
Here they are scaled with the longer side of the validation images; COCO's own stay as they are.
Where that leaves some size with fewer than ``FEWEST`` objects, the sizes are the thirds of the
validation objects by area. AP is computed again, exactly, from the predictions that trials kept.
"""

import functools
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ablations.analysis.image_bootstrap import CACHE
from ablations.analysis.matching import match_trial
from ablations.analysis.resampling import resampled_ap
from ablations.analysis.scored import UNREADABLE, Scored, read_values, scored, why, write_values
from ablations.analysis.study import Study
from ablations.store.files import read_json, sha256

COCO_SIDE = 640.0  # px, the longer side of most of COCO's images
COCO_BOUNDS = (32.0**2, 96.0**2)  # square px
FEWEST = 100
"""Objects of a size below which an AP of that size says little: a convention."""

SIZES = ("small", "medium", "large")
NAMES = ("AP_S", "AP_M", "AP_L")
LARGEST = 1e10  # square px, as in COCO

Counts = tuple[int, int, int]


@dataclass(frozen=True)
class Sizes:
    """What small, medium and large mean: ``bounds`` in square px, and the number of objects of each
    size that they give, ``counts``. ``coco_counts`` are those under COCO's bounds as they are,
    ``scaled`` and ``scaled_counts`` under COCO's scaled with the images, whose longer side is
    ``side`` px (the median)."""

    bounds: tuple[float, float]
    counts: Counts
    side: float
    coco_counts: Counts
    scaled: tuple[float, float]
    scaled_counts: Counts

    @property
    def thirds(self) -> bool:
        """Whether the sizes are thirds of the objects, because scaled bounds leave too few."""
        return self.bounds != self.scaled

    @property
    def ranges(self) -> tuple[tuple[float, float], ...]:
        """As COCO's: both ends included."""
        low, high = self.bounds
        return (0.0, low), (low, high), (high, LARGEST)


def find_sizes(truth: dict[str, Any], classes: tuple[str, ...] = ()) -> Sizes | None:
    """The sizes for a validation set; ``None`` where it has no object or says no image's size.

    Args:
        truth: COCO annotations.
        classes: names of those that count; all if empty.
    """
    sides = [max(i["width"], i["height"]) for i in truth["images"] if {"width", "height"} <= {*i}]
    kept = {c["id"] for c in truth["categories"] if not classes or c["name"] in classes}
    areas = np.array(
        [
            float(a["area"])
            for a in truth["annotations"]
            if a["category_id"] in kept and not a.get("iscrowd", 0)
        ]
    )
    if not sides or not len(areas):
        return None
    side = float(np.median(sides))
    factor = (side / COCO_SIDE) ** 2
    scaled = COCO_BOUNDS[0] * factor, COCO_BOUNDS[1] * factor
    scaled_counts = _counts(areas, scaled)
    bounds = scaled if min(scaled_counts) >= FEWEST else _thirds(areas) or scaled
    return Sizes(
        bounds, _counts(areas, bounds), side, _counts(areas, COCO_BOUNDS), scaled, scaled_counts
    )


def _counts(areas: NDArray[np.float64], bounds: tuple[float, float]) -> Counts:
    low, high = bounds
    small, large = int((areas < low).sum()), int((areas > high).sum())
    return small, len(areas) - small - large, large


def _thirds(areas: NDArray[np.float64]) -> tuple[float, float] | None:
    """Bounds between the thirds, on no object's area; ``None`` where objects are too alike."""
    found = []
    for share in (1 / 3, 2 / 3):
        at = np.quantile(areas, share)
        above = areas[areas > at]
        if not len(above):
            return None
        found.append(float(areas[areas <= at].max() + above.min()) / 2)
    return (found[0], found[1]) if found[0] < found[1] else None


@dataclass(frozen=True)
class Sized:
    """A study whose AP_S, AP_M and AP_L are those of ``sizes``, or, where that is ``None``, the
    records' own, under COCO's bounds as they are. ``left_out`` has a line for each trial whose
    files could not be read: it has no such AP."""

    study: Study
    sizes: Sizes | None
    left_out: list[str]


def sized(study: Study) -> Sized:
    """AP by size of every finished trial that kept its predictions."""
    files = {
        (state.entry.label, state.entry.seed): found
        for state in study.finished_states
        if (found := scored(state)) is not None
    }
    sizes, left_out = _first_sizes(list(files.values()))
    if sizes is None:
        return Sized(study, None, left_out)
    values = {}
    for key, found in files.items():
        try:
            values[key] = _ap(found, sizes)
        except UNREADABLE as error:
            left_out.append(why(error))
    _truth.cache_clear()
    trials = study.trials.copy()
    nothing = np.full(len(NAMES), np.nan)
    rows = [
        values.get((str(label), int(seed)), nothing)
        for label, seed in zip(trials["label"], trials["seed"], strict=True)
    ]
    trials[list(NAMES)] = np.array(rows)
    return Sized(replace(study, trials=trials), sizes, left_out)


def _first_sizes(files: list[Scored]) -> tuple[Sizes | None, list[str]]:
    """From the first annotations that can be read, and why others could not."""
    trouble: dict[str, None] = {}
    for annotations, found in {each.annotations: each for each in files}.items():
        try:
            return find_sizes(_truth(annotations), found.classes), list(trouble)
        except UNREADABLE as error:
            trouble[why(error)] = None
    return None, list(trouble)


def _ap(found: Scored, sizes: Sizes) -> NDArray[np.float64]:
    """AP in percent of small, medium and large objects, [3]; NaN where there are none."""
    low, high = sizes.bounds
    path = found.work_dir / CACHE / f"{found.digests}-sizes-{low:g}-{high:g}.npy"
    values = read_values(path, (len(SIZES),))
    if values is not None:
        return values
    if sha256(found.predictions) != found.predictions_digest:
        raise ValueError(f"{found.predictions} is not the file that its record describes")
    matches = match_trial(found.annotations, found.predictions, found.classes, _truth, sizes.ranges)
    once = np.ones((1, len(matches.image_ids)), dtype=np.int32)
    ap = resampled_ap(matches, once, areas=len(SIZES)).reshape(len(SIZES), -1)
    values = np.array([_mean_known(area) for area in ap])
    write_values(path, values)
    return values


def _mean_known(ap: NDArray[np.float64]) -> float:
    """Mean in percent over the classes that have an object; NaN if none has."""
    known = ap[~np.isnan(ap)]
    return 100 * float(known.mean()) if len(known) else float("nan")


# Trials of a sweep share it.
_truth = functools.lru_cache(maxsize=1)(read_json)
