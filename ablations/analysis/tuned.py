"""Arms that are each compared at their own best value of an axis, such as the learning rate.

An axis that a grid names as ``tune`` is no question of its own: every arm (the other coordinates)
may take the value that suits it. The best of several values, picked and measured on the same seeds,
is too high. So an arm's AP on a seed is taken at the value that is best over the *other* seeds
(leave-one-out), and arms are compared by these, paired by seed.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ablations.analysis.study import Study


@dataclass(frozen=True)
class Tuned:
    """``labels`` [arms, values] are the cells, ``None`` where the grid has none. Arrays:

    ``mean`` [arms, values] is AP in percent over the seeds, NaN where a trial did not finish: a
    value at which a seed is missing is never the best. ``best`` [arms] is the index of the best
    value, -1 without one. ``held_out`` [arms, seeds] is AP of a seed at the value that is best over
    the others; NaN with fewer than two seeds. ``usual`` is the index of the baseline's value, and
    ``reference`` that of its arm; ``None`` without a baseline.
    """

    axis: str
    arms: list[str]
    values: list[Any]
    labels: list[list[str | None]]
    mean: NDArray[np.float64]
    best: NDArray[np.int64]
    held_out: NDArray[np.float64]
    usual: int | None
    reference: int | None

    @property
    def at_best(self) -> NDArray[np.float64]:
        """AP of each arm at its best value [arms]."""
        chosen = np.take_along_axis(self.mean, np.maximum(self.best, 0)[:, None], axis=1)[:, 0]
        return np.where(self.best >= 0, chosen, np.nan)

    @property
    def at_an_end(self) -> list[str]:
        """Arms whose best value is the first or the last tried: a better one may lie beyond."""
        last = len(self.values) - 1
        if last < 1:
            return []
        return [arm for arm, best in zip(self.arms, self.best, strict=True) if best in (0, last)]

    def order(self, ap: NDArray[np.float64]) -> list[str]:
        """The arms that have an AP [arms], from the lowest to the highest."""
        return [self.arms[i] for i in np.argsort(ap, kind="stable") if np.isfinite(ap[i])]


def tuned(study: Study) -> Tuned | None:
    """The arms of a study whose grid names an axis as ``tune``; ``None`` for every other."""
    axis = study.manifests[0].grid.get("tune")
    cells = {label: point for label, point in study.points.items() if axis in point}
    if axis is None or not cells:
        return None
    arm_of = {label: _without(label, axis) for label in cells}
    arms = list(dict.fromkeys(arm_of.values()))
    values: list[Any] = []
    for point in cells.values():
        if point[axis] not in values:
            values.append(point[axis])
    if all(isinstance(value, int | float) for value in values):
        values.sort()
    labels: list[list[str | None]] = [[None] * len(values) for _ in arms]
    for label, point in cells.items():
        labels[arms.index(arm_of[label])][values.index(point[axis])] = label
    ap = _ap(study, labels)
    mean = ap.mean(axis=2)
    base = study.baseline if study.baseline in cells else None
    return Tuned(
        axis,
        arms,
        values,
        labels,
        mean,
        _best(mean),
        _held_out(ap),
        None if base is None else values.index(cells[base][axis]),
        None if base is None else arms.index(arm_of[base]),
    )


def _without(label: str, axis: str) -> str:
    return " ".join(part for part in label.split(" ") if not part.startswith(f"{axis}="))


def _ap(study: Study, labels: list[list[str | None]]) -> NDArray[np.float64]:
    """[arms, values, seeds], NaN where nothing finished."""
    known: pd.DataFrame = study.values()
    nothing = np.full(known.shape[1], np.nan)
    rows = [
        [nothing if label is None else known.loc[label].to_numpy(dtype=np.float64) for label in row]
        for row in labels
    ]
    return np.array(rows)


def _best(mean: NDArray[np.float64]) -> NDArray[np.int64]:
    """Along the last axis; -1 where all is NaN."""
    known = np.isfinite(mean)
    best = np.where(known, mean, -np.inf).argmax(axis=-1)
    return np.where(known.any(axis=-1), best, -1)


def _held_out(ap: NDArray[np.float64]) -> NDArray[np.float64]:
    arms, _, seeds = ap.shape
    found = np.full((arms, seeds), np.nan)
    if seeds < 2:
        return found
    complete = np.where(np.isfinite(ap).all(axis=2, keepdims=True), ap, np.nan)
    for seed in range(seeds):
        best = _best(np.delete(complete, seed, axis=2).mean(axis=2))
        at = np.take_along_axis(complete[:, :, seed], np.maximum(best, 0)[:, None], axis=1)[:, 0]
        found[:, seed] = np.where(best >= 0, at, np.nan)
    return found
