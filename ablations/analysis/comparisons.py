"""Cells against a baseline, and cells against the best one.

Differences are paired: all cells of one seed share their initial weights and data order, and all
trials their validation images.
"""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ablations.analysis.image_bootstrap import Resamples, mean_over
from ablations.analysis.seeds import half_width, holm, p_value, seeds_needed
from ablations.analysis.study import Study
from ablations.analysis.variances import moderate

ALPHA = 0.05


def against_baseline(study: Study, resamples: Resamples, metric: str = "AP") -> pd.DataFrame:
    """Paired differences, cell minus baseline, in percent; one row a cell but the baseline.

    Columns: ``label``, ``seeds`` (n that both have), ``difference`` (mean over them; NaN for none),
    ``sd`` (of one seed's difference), ``half_seeds`` (half-width of the 95 % t interval: another
    training, the same images), ``image_sd`` (of the mean difference under resampled images),
    ``half_total`` (both sources), ``p`` (of half_total's interval; of half_seeds' where images were
    not resampled), ``half_unpaired`` (Welch's, for comparison), ``seeds_needed`` (to find a
    difference of this size with 80 % power). NaN where seeds or resamples are lacking.
    """
    if study.baseline is None:
        return pd.DataFrame()
    values = study.values(metric)
    table = dict(zip(study.labels, values.to_numpy(dtype=np.float64), strict=True))  # [seeds] each
    base = table[study.baseline]
    rows = []
    for label in study.labels:
        if label == study.baseline:
            continue
        paired = table[label] - base
        shared = [int(seed) for seed in values.columns[np.isfinite(paired)]]
        image_sd = _image_sd(resamples, label, study.baseline, shared)
        row = {"label": label, **_paired(paired[np.isfinite(paired)], image_sd)}
        rows.append(row | {"half_unpaired": _welch(table[label], base)})
    return pd.DataFrame(rows)


def _paired(differences: NDArray[np.float64], image_sd: float) -> dict[str, float]:
    """One row of ``against_baseline``: ``differences`` [seeds]."""
    n = len(differences)
    mean = float(differences.mean()) if n else np.nan
    row = {"seeds": n, "difference": mean, "image_sd": image_sd}
    if n < 2:
        nothing = ("sd", "half_seeds", "half_total", "p", "seeds_needed")
        return row | dict.fromkeys(nothing, np.nan)
    sd = float(differences.std(ddof=1))
    both = np.isfinite(image_sd)
    return row | {
        "sd": sd,
        "half_seeds": float(half_width(sd, n)),
        "half_total": float(half_width(sd, n, image_sd)) if both else np.nan,
        "p": float(p_value(mean, sd, n, image_sd if both else 0.0)),
        "seeds_needed": seeds_needed(mean, sd) or np.nan,
    }


@dataclass(frozen=True)
class Pairs:
    """All pairs of cells (first, second index into ``labels``) with what tells them apart: the mean
    paired ``difference`` first - second, ``n`` seeds, moderated ``sd`` of one seed's difference
    with its ``df``, ``image_sd``, and ``p`` adjusted by Holm over all pairs. Arrays [pairs]."""

    labels: list[str]
    first: NDArray[np.int64]
    second: NDArray[np.int64]
    difference: NDArray[np.float64]
    n: NDArray[np.int64]
    sd: NDArray[np.float64]
    df: NDArray[np.float64]
    image_sd: NDArray[np.float64]
    p: NDArray[np.float64]


def all_pairs(values: pd.DataFrame, resamples: Resamples | None = None) -> Pairs:
    """Compare every pair of the cells that have a value.

    Correcting over all pairs, not only over those with the best, keeps the chance of any false
    difference at 5 % although the best is picked on the same numbers.

    Args:
        values: one row a cell, one column a seed (``Study.values``).
        resamples: image resamples; without them only the seeds' variance counts.
    """
    kept = values.dropna(how="all")
    labels = [str(label) for label in kept.index]
    index = np.array(list(combinations(range(len(labels)), 2)), dtype=np.int64).reshape(-1, 2)
    first, second = index[:, 0], index[:, 1]
    table = kept.to_numpy(dtype=np.float64)
    paired = table[first] - table[second]  # [pairs, seeds]
    n = np.isfinite(paired).sum(axis=1)
    difference = np.where(n > 0, np.nansum(paired, axis=1) / np.maximum(n, 1), np.nan)
    squares = np.nansum((paired - difference[:, None]) ** 2, axis=1)
    variance = np.where(n > 1, squares / np.maximum(n - 1, 1), np.nan)
    most = max((np.isfinite(table).any(axis=1).sum() - 1) * (n.max(initial=1) - 1), 1)
    moderated = moderate(variance, n - 1, float(most))
    sd = np.sqrt(moderated.variances)
    image_sd = _pair_image_sd(resamples or {}, kept, first, second)
    p = p_value(difference, sd, np.maximum(n, 1), image_sd, np.maximum(moderated.df, 1))
    p = np.where(n > 1, p, np.nan)
    return Pairs(labels, first, second, difference, n, sd, moderated.df, image_sd, holm(p))


def against_best(study: Study, resamples: Resamples, metric: str = "AP") -> pd.DataFrame:
    """Which cells can be told from the best: one row a cell that has a value.

    Columns: ``label``; ``difference`` to the cell of the highest mean, paired, in percent (0 for
    that cell itself); ``p_seeds`` (another training, the same images) and ``p_total`` (other images
    too; NaN without resamples), adjusted by Holm over all pairs, NaN with one seed; ``verdict``:
    "best mean", "worse", "worse on these images" (but perhaps not on others), or "cannot be told
    apart", at the 5 % level.
    """
    values = study.values(metric)
    means = values.mean(axis=1).dropna()
    columns = ["label", "difference", "p_seeds", "p_total", "verdict"]
    if means.empty:
        return pd.DataFrame(columns=columns)
    best = str(means.idxmax())
    seeds = all_pairs(values)
    total = all_pairs(values, resamples) if resamples else None
    at = seeds.labels.index(best)
    rows: dict[str, list[object]] = {best: [best, 0.0, np.nan, np.nan, "best mean"]}
    for i in np.flatnonzero((seeds.first == at) | (seeds.second == at)):
        sign = 1.0 if seeds.second[i] == at else -1.0
        label = seeds.labels[seeds.first[i] if seeds.second[i] == at else seeds.second[i]]
        p_seeds = float(seeds.p[i])
        p_total = float(total.p[i]) if total is not None else np.nan
        difference = sign * float(seeds.difference[i])
        rows[label] = [label, difference, p_seeds, p_total, _verdict(p_seeds, p_total)]
    return pd.DataFrame([rows[label] for label in study.labels if label in rows], columns=columns)


def _verdict(p_seeds: float, p_total: float) -> str:
    if not p_seeds <= ALPHA:
        return "cannot be told apart"
    return "worse on these images" if p_total > ALPHA else "worse"


def typical_paired_sd(study: Study, metric: str = "AP") -> float:
    """Standard deviation of one seed's paired difference, as a root mean square over all pairs of
    cells; NaN with fewer than two seeds."""
    values = study.values(metric).dropna(how="all")
    centred = values.sub(values.mean(axis=0), axis=1)
    spread = centred.var(axis=1, ddof=1).mean()
    cells = len(values)
    if cells < 2 or not np.isfinite(spread):
        return float("nan")
    # Removing the seeds' means takes away 1 / cells of the residual variance.
    return float(np.sqrt(2 * spread * cells / (cells - 1)))


def _image_sd(resamples: Resamples, label: str, base: str, seeds: list[int]) -> float:
    shared = [s for s in seeds if (label, s) in resamples and (base, s) in resamples]
    mine, theirs = mean_over(resamples, label, shared), mean_over(resamples, base, shared)
    return np.nan if mine is None or theirs is None else float((mine - theirs).std(ddof=1))


def _pair_image_sd(
    resamples: Resamples, values: pd.DataFrame, first: NDArray[np.int64], second: NDArray[np.int64]
) -> NDArray[np.float64]:
    """[pairs]; 0 where a cell was not resampled."""
    means = [mean_over(resamples, str(label), map(int, values.columns)) for label in values.index]
    size = next((len(mean) for mean in means if mean is not None), 0)
    if not size:
        return np.zeros(len(first))
    table = np.stack([np.full(size, np.nan) if mean is None else mean for mean in means])
    covariance = np.atleast_2d(np.cov(table))  # of a single cell: a number
    variance = np.diag(covariance)
    spread = variance[first] + variance[second] - 2 * covariance[first, second]
    return np.sqrt(np.maximum(np.nan_to_num(spread), 0.0))


def _welch(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Half-width of Welch's interval, which ignores the pairing; [seeds] with NaN for none."""
    one, other = one[np.isfinite(one)], other[np.isfinite(other)]
    n, m = len(one), len(other)
    if n < 2 or m < 2:
        return float("nan")
    a, b = one.var(ddof=1) / n, other.var(ddof=1) / m
    df = (a + b) ** 2 / (a**2 / (n - 1) + b**2 / (m - 1)) if a + b > 0 else n + m - 2
    return float(half_width(np.sqrt(a + b), 1, df=df))
