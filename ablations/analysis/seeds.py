"""What a handful of seeds can say: intervals, paired differences, corrections, seeds needed.

A bootstrap over three seeds cannot cover, so everything over seeds is Student's t. Two sources of
error are kept apart and then combined:

- *training*: another seed would give another model. The variance of a mean over n seeds is s^2/n
  with n - 1 degrees of freedom;
- *images*: another validation set would give another AP. Its variance comes from resampling the
  images, or the groups they come in (``ablations.analysis.image_bootstrap``), the same for both
  sides of a difference.

The combined half-width is the root of the sum of the squared half-widths,
``sqrt((t s / sqrt(n))^2 + (z sigma_images)^2)``, with Student's t in the place of z where groups
were resampled: exact when either source is absent. The
interaction of seed and image sits in both terms, so it errs on the wide side.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

CONFIDENCE = 0.95
ALPHA = 0.05


@dataclass(frozen=True)
class SeedInterval:
    """Means over ``n`` values each with their confidence intervals ``[low, high]``; arrays of one
    shape.

    ``sd`` is the standard deviation of one value. ``sd``, ``low`` and ``high`` are NaN for a
    single value: one seed says nothing about the spread over seeds.
    """

    mean: NDArray[np.float64]
    sd: NDArray[np.float64]
    n: NDArray[np.int64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]

    @property
    def half_width(self) -> NDArray[np.float64]:
        return (self.high - self.low) / 2


def seed_interval(values: ArrayLike, confidence: float = CONFIDENCE) -> SeedInterval:
    """Means of ``values`` [..., seeds] with Student's t intervals; NaN values are left out."""
    table = np.asarray(values, dtype=np.float64)
    known = np.isfinite(table)
    n = known.sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(known, table, 0.0).sum(axis=-1) / n
        squares = np.where(known, table - mean[..., None], 0.0) ** 2
        sd = np.where(n > 1, np.sqrt(squares.sum(axis=-1) / (n - 1)), np.nan)
        half = half_width(sd, n, confidence=confidence)
    return SeedInterval(mean, sd, n, mean - half, mean + half)


def additive(table: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Fit AP = cell + seed by least squares to ``table`` [cells, seeds], NaN left out.

    Returns:
        Cells [cells], NaN for those without a value: the mean that each would have over all seeds;
        and seeds' shifts [seeds], of mean zero. Where some cells share no seed with others, not
        even through a third, the shifts have mean zero in each such part, and cells of different
        parts are compared by their plain means.
    """
    known = np.isfinite(table)
    n = known.sum(axis=1)
    filled, weight = np.where(known, table, 0.0), known.astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = filled.sum(axis=1) / n
        share = np.where(n[:, None] > 0, weight / n[:, None], 0.0)
    # The cells are eliminated; what is left is the Laplacian of seeds that share cells.
    normal = np.diag(weight.sum(axis=0)) - weight.T @ share
    shift = np.linalg.pinv(normal, hermitian=True) @ (
        filled.sum(axis=0) - weight.T @ np.where(n > 0, mean, 0.0)
    )
    return mean - share @ shift, shift


def adjusted_means(values: pd.DataFrame) -> pd.Series:
    """Means of cells that may be compared although a seed shifts all cells and not every cell has
    every seed: one by row of ``values`` (``Study.values``), NaN without a value.

    Plain means where the cells have equal seeds, else the cells of ``additive``.
    """
    if not unequal_seeds(values):
        return values.mean(axis=1)
    return pd.Series(additive(values.to_numpy(dtype=np.float64))[0], index=values.index)


def unequal_seeds(values: pd.DataFrame) -> bool:
    """Whether some cell with a value lacks a seed that another has."""
    known = values.notna().to_numpy()
    known = known[known.any(axis=1)]
    return bool((known != known.any(axis=0)).any())


def half_width(
    seed_sd: ArrayLike,
    n: ArrayLike,
    image_sd: ArrayLike = 0.0,
    df: ArrayLike | None = None,
    confidence: ArrayLike = CONFIDENCE,
    image_df: float = np.inf,
) -> NDArray[np.float64]:
    """Half-width of the combined interval of a mean over ``n`` seeds; arguments broadcast.

    Args:
        seed_sd: standard deviation of one seed's value (of one seed's difference, if paired).
        n: seeds.
        image_sd: standard deviation of the mean under resampled images.
        df: degrees of freedom of ``seed_sd``; n - 1 unless it was estimated from more.
        confidence: of the interval.
        image_df: degrees of freedom of ``image_sd``; few where groups of images were resampled.
    """
    n = np.asarray(n, dtype=np.float64)
    tail = 0.5 + np.asarray(confidence) / 2
    training = stats.t.ppf(tail, n - 1 if df is None else df) * seed_sd / np.sqrt(n)
    images = _image_quantile(0.5 - np.asarray(confidence) / 2, image_df) * np.asarray(image_sd)
    return np.hypot(training, images)


def _image_quantile(tail: ArrayLike, df: float) -> NDArray[np.float64]:
    """What a standard normal, or Student's t, exceeds with probability ``tail``."""
    return stats.norm.isf(tail) if np.isinf(df) else stats.t.isf(tail, df)


def p_value(
    difference: ArrayLike,
    seed_sd: ArrayLike,
    n: ArrayLike,
    image_sd: ArrayLike = 0.0,
    df: ArrayLike | None = None,
    image_df: float = np.inf,
) -> NDArray[np.float64]:
    """Two-sided p of ``difference``: one minus the confidence at which the combined interval just
    reaches zero (found by bisection on the log of p). Arguments broadcast; NaN stays NaN."""
    arrays = np.broadcast_arrays(
        np.abs(np.asarray(difference, dtype=np.float64)),
        np.asarray(seed_sd, dtype=np.float64),
        np.asarray(n, dtype=np.float64),
        np.asarray(image_sd, dtype=np.float64),
        np.asarray(np.subtract(n, 1) if df is None else df, dtype=np.float64),
    )
    size, sd, seeds, images, freedom = arrays
    low, high = np.full(size.shape, -60.0), np.zeros(size.shape)
    for _ in range(60):
        middle = (low + high) / 2
        tail = np.exp(middle) / 2
        reach = np.hypot(
            stats.t.isf(tail, freedom) * sd / np.sqrt(seeds),
            _image_quantile(tail, image_df) * images,
        )
        wide = reach >= size  # no difference at all has p = 1, even without any spread
        low, high = np.where(wide, middle, low), np.where(wide, high, middle)
    return np.where(np.isfinite(size + sd + images), np.exp(high), np.nan)


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """Holm's adjusted p values [tests]: reject where they are at most alpha, and the chance of any
    false rejection stays at most alpha. NaN entries are no tests and stay NaN."""
    p = np.asarray(p_values, dtype=np.float64)
    adjusted = np.full(p.shape, np.nan)
    tests = np.flatnonzero(np.isfinite(p))
    order = tests[np.argsort(p[tests], kind="stable")]
    steps = len(order) - np.arange(len(order))
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * steps), 1.0)
    return adjusted


def power(
    difference: ArrayLike, seed_sd: ArrayLike, n: ArrayLike, alpha: float = 0.05
) -> NDArray[np.float64]:
    """Chance that a two-sided (paired) t test over ``n`` >= 2 seeds finds ``difference``; arguments
    broadcast."""
    n = np.asarray(n, dtype=np.float64)
    shift = np.abs(difference) / np.asarray(seed_sd) * np.sqrt(n)
    critical = stats.t.isf(alpha / 2, n - 1)
    # Below -critical, mirrored: scipy's cdf is NaN there for large shifts.
    return stats.nct.sf(critical, n - 1, shift) + stats.nct.sf(critical, n - 1, -shift)


def seeds_needed(
    difference: ArrayLike,
    seed_sd: ArrayLike,
    alpha: float = 0.05,
    wanted: float = 0.8,
    limit: int = 1000,
) -> NDArray[np.float64]:
    """Fewest seeds at which a paired t test at ``alpha`` finds ``difference`` with the ``wanted``
    power; NaN beyond ``limit`` or where the spread is unknown. ``seed_sd`` is that of one seed's
    paired difference; the two broadcast."""
    size, sd = np.broadcast_arrays(np.abs(difference), np.asarray(seed_sd, dtype=np.float64))
    shape, size, sd = size.shape, size.ravel(), sd.ravel()
    some = np.isfinite(size) & (size > 0)
    needed = np.where(some & (sd == 0), 2.0, np.nan)
    reach = stats.norm.isf(alpha / 2) + stats.norm.ppf(wanted)
    with np.errstate(divide="ignore", invalid="ignore"):
        n = np.maximum(2.0, np.floor((reach * sd / size) ** 2))  # the normal's: never too many
    left = np.flatnonzero(some & (sd > 0) & (n <= limit))
    while len(left):
        enough = power(size[left], sd[left], n[left], alpha) >= wanted
        needed[left[enough]] = n[left[enough]]
        left = left[~enough]
        n[left] += 1
        left = left[n[left] <= limit]
    return needed.reshape(shape)
