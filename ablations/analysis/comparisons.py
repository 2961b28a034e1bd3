"""Cells against a baseline, and cells against the best one.

Differences are paired: all cells of one seed share their initial weights and data order, and all
trials their validation images.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ablations.analysis.image_bootstrap import Resamples, mean_over
from ablations.analysis.seeds import (
    ALPHA,
    adjusted_means,
    half_width,
    holm,
    p_value,
    seed_interval,
    seeds_needed,
)
from ablations.analysis.study import Study
from ablations.analysis.variances import moderate, noisier_cells

MOST_PAIRS = 20_000
"""Pairs of cells to compare all of: those of 200 cells. Beyond, each cell is compared with the best
one alone."""


def against_baseline(study: Study, resamples: Resamples, metric: str = "AP") -> pd.DataFrame:
    """Paired differences, cell minus baseline, in percent; one row a cell but the baseline.

    Columns: ``label``, ``seeds`` (n that both have), ``difference`` (mean over them; NaN for none),
    ``sd`` (of one seed's difference), ``half_seeds`` (half-width of the 95 % t interval: another
    training, the same images), ``image_sd`` (of the mean difference under resampled images or
    groups of them), ``half_total`` (both sources), ``p`` (of half_total's interval; of half_seeds'
    where images were not resampled), ``half_unpaired`` (Welch's, for comparison), ``seeds_needed``
    (to find a difference of this size with 80 % power). NaN where seeds or resamples are lacking.
    """
    if study.baseline is None:
        return pd.DataFrame()
    values = study.values(metric)
    base = values.loc[study.baseline].to_numpy(dtype=np.float64)  # [seeds]
    others = values.drop(index=study.baseline)
    table = others.to_numpy(dtype=np.float64)  # [cells, seeds]
    paired = table - base
    found = seed_interval(paired)
    image_sd = np.array(
        [
            _image_sd(resamples, str(label), study.baseline, values.columns[np.isfinite(row)])
            for label, row in zip(others.index, paired, strict=True)
        ]
    )
    rows = pd.DataFrame({"label": [str(label) for label in others.index], "seeds": found.n})
    rows["difference"] = found.mean
    rows["sd"] = found.sd
    rows["half_seeds"] = found.half_width
    rows["image_sd"] = image_sd
    n = np.maximum(found.n, 1)
    rows["half_total"] = half_width(found.sd, n, image_sd, image_df=resamples.df)
    rows["p"] = p_value(found.mean, found.sd, n, np.nan_to_num(image_sd), image_df=resamples.df)
    rows["half_unpaired"] = _welch(table, base)
    rows["seeds_needed"] = seeds_needed(found.mean, found.sd)
    return rows


@dataclass(frozen=True)
class Pairs:
    """Pairs of cells (first, second index into ``labels``) with what tells them apart: the mean
    paired ``difference`` first - second, ``n`` seeds, moderated ``sd`` of one seed's difference
    with its ``df``, ``image_sd``, and ``p`` adjusted over all pairs there are. Arrays [pairs]."""

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
    """Compare every pair of the cells that have a value, or, where there are more than
    ``MOST_PAIRS`` of them, every cell with that of the highest mean.

    Correcting over all pairs, not only over those with the best, keeps the chance of any false
    difference at 5 % although the best is picked on the same numbers: by Holm's method, and by
    Bonferroni's, which is never less strict, where not all pairs are compared. Variances are
    moderated by those of all pairs, or of a sample of them.

    Args:
        values: one row a cell, one column a seed (``Study.values``).
        resamples: image resamples; without them only the seeds' variance counts.
    """
    kept = values.dropna(how="all")
    labels = [str(label) for label in kept.index]
    table = kept.to_numpy(dtype=np.float64)
    count = len(labels) * (len(labels) - 1) // 2
    few = count <= MOST_PAIRS
    first, second = np.triu_indices(len(labels), 1) if few else _with_best(table)
    more = None if few else _sampled(len(labels))
    difference, n, sd, df = pair_spreads(table, first, second, more)
    resamples = resamples or Resamples()
    image_sd = _pair_image_sd(resamples, kept, first, second)
    p = p_value(difference, sd, np.maximum(n, 1), image_sd, np.maximum(df, 1), resamples.df)
    p = np.where(n > 1, p, np.nan)
    adjusted = holm(p) if few else np.minimum(p * count, 1.0)
    return Pairs(labels, first, second, difference, n, sd, df, image_sd, adjusted)


def pair_spreads(
    table: NDArray[np.float64],
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    more: NDArray[np.int64] | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Mean paired difference, seeds that both have, standard deviation of one difference and its
    degrees of freedom: [pairs] each.

    Variances are moderated, but a pair with a cell that is noisier than the rest keeps its own.

    Args:
        table: values [cells, seeds], each cell with one at least.
        first: a cell of each pair, [pairs].
        second: the other.
        more: pairs [2, more] that are not compared and inform the common variance too.
    """
    difference, n, variance = _differences(table, first, second)
    pairs = np.stack([first, second]) if more is None else np.hstack([[first, second], more])
    _, all_n, variances = _differences(table, *pairs) if more is not None else (0, n, variance)
    noisy = noisier_cells(table)
    most = max((len(table) - 1) * (n.max(initial=1) - 1), 1)
    # Noisy pairs stay among those that make the common variance: another may have gone unseen.
    moderated = moderate(variances, all_n - 1, float(most))
    apart = noisy[first] | noisy[second]
    shared = np.where(apart, variance, moderated.variances[: len(n)])
    return difference, n, np.sqrt(shared), np.where(apart, n - 1.0, moderated.df[: len(n)])


def _with_best(table: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The pairs of each row of ``table`` [cells, seeds] with that of the highest adjusted mean."""
    best = int(np.argmax(adjusted_means(pd.DataFrame(table))))
    others = np.delete(np.arange(len(table)), best)
    return others, np.full_like(others, best)


def _sampled(cells: int) -> NDArray[np.int64]:
    """``MOST_PAIRS`` random pairs of different cells, always the same ones: [2, pairs]."""
    generator = np.random.default_rng(0)
    first = generator.integers(cells, size=MOST_PAIRS)
    return np.stack([first, (first + generator.integers(1, cells, size=MOST_PAIRS)) % cells])


def _differences(
    table: NDArray[np.float64], first: NDArray[np.int64], second: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
    """Mean paired difference, seeds that both have, variance of one difference: [pairs] each."""
    found = seed_interval(table[first] - table[second])
    return found.mean, found.n, found.sd**2


def against_best(study: Study, resamples: Resamples, metric: str = "AP") -> pd.DataFrame:
    """Which cells can be told from the best: one row a cell that has a value.

    Columns: ``label``; ``difference`` to the cell of the highest mean, paired, in percent (0 for
    that cell itself); ``p_seeds`` (another training, the same images) and ``p_total`` (other images
    too; NaN without resamples), adjusted over all pairs (``all_pairs``), NaN with one seed;
    ``verdict``: "best mean", "worse", "worse on these images" (but perhaps not on others), or
    "cannot be told apart", at the 5 % level.
    """
    values = study.values(metric)
    means = adjusted_means(values).dropna()
    columns = ["label", "difference", "p_seeds", "p_total", "verdict"]
    if means.empty:
        return pd.DataFrame(columns=columns)
    best = str(means.idxmax())
    seeds = all_pairs(values)
    total = all_pairs(values, resamples) if resamples.ap else None
    resampled = {label for label, _ in resamples.ap}
    at = seeds.labels.index(best)
    rows: dict[str, list[object]] = {best: [best, 0.0, np.nan, np.nan, "best mean"]}
    for i in np.flatnonzero((seeds.first == at) | (seeds.second == at)):
        sign = 1.0 if seeds.second[i] == at else -1.0
        label = seeds.labels[seeds.first[i] if seeds.second[i] == at else seeds.second[i]]
        p_seeds, p_total = float(seeds.p[i]), np.nan
        if total is not None and {label, best} <= resampled:
            p_total = float(total.p[i])
        verdict = "cannot be told apart"
        if p_seeds <= ALPHA:
            everywhere = total is None or p_total <= ALPHA
            verdict = "worse" if everywhere else "worse on these images"
        rows[label] = [label, sign * float(seeds.difference[i]), p_seeds, p_total, verdict]
    return pd.DataFrame([rows[label] for label in study.labels if label in rows], columns=columns)


def against_every_baseline(
    study: Study,
    resamples: Resamples,
    metric: str = "AP",
    baselines: Collection[str] | None = None,
) -> dict[str, pd.DataFrame]:
    """``against_baseline`` for each cell as the baseline (or for ``baselines`` alone): label -> its
    frame, for the cells that have a value.

    Further columns: ``p_seeds`` and ``p_total``, adjusted over all pairs as in ``against_best``;
    ``verdict``: "higher", "lower", either of them with " on these images", "cannot be told apart",
    or "not compared" (no seed in common, or too many cells to compare all pairs).
    """
    values = study.values(metric)
    resampled = {label for label, _ in resamples.ap}
    seeds = all_pairs(values)
    total = all_pairs(values, resamples) if resamples.ap else None
    known = [str(label) for label in values.dropna(how="all").index]
    frames = {}
    for label in known if baselines is None else [name for name in known if name in baselines]:
        frame = against_baseline(replace(study, baseline=label), resamples, metric)
        p_seeds = _p_against(seeds, label)
        p_total = _p_against(total, label) if total is not None and label in resampled else {}
        others = list(frame["label"])
        frame["p_seeds"] = [p_seeds.get(name, np.nan) for name in others]
        frame["p_total"] = [p_total.get(n, np.nan) if n in resampled else np.nan for n in others]
        frame["verdict"] = [
            _verdict(difference, p, wider, bool(resamples.ap))
            if name in p_seeds
            else "not compared"
            for name, difference, p, wider in zip(
                others, frame["difference"], frame["p_seeds"], frame["p_total"], strict=True
            )
        ]
        frames[label] = frame
    return frames


def _p_against(pairs: Pairs, label: str) -> dict[str, float]:
    """Adjusted p of the pairs that hold the cell ``label``, by the other cell."""
    if label not in pairs.labels:
        return {}
    at = pairs.labels.index(label)
    own = np.flatnonzero((pairs.first == at) | (pairs.second == at))
    others = pairs.first[own] + pairs.second[own] - at
    return {pairs.labels[i]: float(p) for i, p in zip(others, pairs.p[own], strict=True)}


def _verdict(difference: float, p_seeds: float, p_total: float, resampled: bool) -> str:
    if not np.isfinite(difference):
        return "not compared"
    if not p_seeds <= ALPHA:
        return "cannot be told apart"
    where = "" if not resampled or p_total <= ALPHA else " on these images"
    return ("higher" if difference > 0 else "lower") + where


def typical_paired_sd(study: Study, metric: str = "AP") -> float:
    """``paired_sd`` of a study's cells; NaN with fewer than two cells or seeds."""
    values = study.values(metric).dropna(how="all")
    return float(paired_sd(values.to_numpy(dtype=np.float64))) if len(values) > 1 else float("nan")


def paired_sd(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Standard deviation of one seed's paired difference, as a root mean square over all pairs of
    cells: [...] from ``values`` [..., cells, seeds] of two cells or more. NaN values are left out;
    NaN with fewer than two seeds."""
    cells = values.shape[-2]
    shift = seed_interval(np.swapaxes(values, -1, -2)).mean  # of each seed: [..., seeds]
    spread = seed_interval(seed_interval(values - shift[..., None, :]).sd ** 2).mean
    # Removing the seeds' means takes away 1 / cells of the residual variance.
    return np.sqrt(2 * spread * cells / (cells - 1))


def _image_sd(resamples: Resamples, label: str, base: str, seeds: pd.Index) -> float:
    shared = [int(s) for s in seeds if {(label, s), (base, s)} <= resamples.ap.keys()]
    mine, theirs = mean_over(resamples, label, shared), mean_over(resamples, base, shared)
    return np.nan if mine is None or theirs is None else resamples.sd(mine - theirs)


def _pair_image_sd(
    resamples: Resamples, values: pd.DataFrame, first: NDArray[np.int64], second: NDArray[np.int64]
) -> NDArray[np.float64]:
    """[pairs]; 0 where a cell was not resampled."""
    place = np.full(len(values), -1)
    means: list[NDArray[np.float64]] = []
    for index, label in enumerate(values.index):
        mean = mean_over(resamples, str(label), map(int, values.columns))
        if mean is not None:
            place[index] = len(means)
            means.append(mean)
    if not means:
        return np.zeros(len(first))
    covariance = np.atleast_2d(np.cov(np.stack(means)))  # of a single cell: a number
    one, other = place[first], place[second]
    variance = np.diag(covariance)
    spread = variance[one] + variance[other] - 2 * covariance[one, other]
    sd = np.sqrt(np.maximum(spread, 0.0)) * resamples.inflation
    return np.where((one >= 0) & (other >= 0), sd, 0.0)


def _welch(table: NDArray[np.float64], base: NDArray[np.float64]) -> NDArray[np.float64]:
    """Half-widths of Welch's intervals, which ignore the pairing: [cells] from [cells, seeds] and
    the baseline's [seeds]; NaN with fewer than two seeds on a side."""
    one, other = seed_interval(table), seed_interval(base)
    a, b = one.sd**2 / one.n, other.sd**2 / other.n
    with np.errstate(invalid="ignore", divide="ignore"):
        df = (a + b) ** 2 / (a**2 / (one.n - 1) + b**2 / (other.n - 1))
    df = np.where(a + b > 0, df, one.n + other.n - 2.0)
    return half_width(np.sqrt(a + b), 1, df=df)
