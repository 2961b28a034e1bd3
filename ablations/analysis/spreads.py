"""Paired differences of all pairs of cells and their spreads, for many tables at once.

The same estimates as ``comparisons.pair_spreads`` (Smyth's moderated variances, of which
``variances`` gives the reasons), vectorised over leading axes, since a simulation of a sequential
design asks for them a hundred thousand times; and with degrees of freedom that are exact where
cells have unequal seeds.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from ablations.analysis.variances import FEWEST, LENT, NOISIER

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Spreads:
    """Pairs of cells ``first`` < ``second`` [pairs]; the mean paired ``difference`` first - second,
    the ``n`` seeds that both have, the moderated ``sd`` of one seed's difference and its ``df``:
    [..., pairs] each, NaN where a pair has too few seeds in common.

    ``effect`` [..., cells] are the cells' means, adjusted for seeds that some lack; ``pooled``
    [...] is the root mean square of the pairs' standard deviations.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    difference: Floats
    n: NDArray[np.int64]
    sd: Floats
    df: Floats
    effect: Floats
    pooled: Floats

    @property
    def error(self) -> Floats:
        """Standard error of ``difference``."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return self.sd / np.sqrt(self.n)


def spreads(values: Floats) -> Spreads:
    """The spreads of ``values`` [..., cells, seeds], NaN where a cell lacks a seed."""
    first, second = np.triu_indices(values.shape[-2], 1)
    gaps = values[..., first, :] - values[..., second, :]
    there = np.isfinite(gaps)
    n = there.sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(there, gaps, 0.0).sum(axis=-1) / n
        squares = (np.where(there, gaps - mean[..., None], 0.0) ** 2).sum(axis=-1)
        variance = np.where(n > 1, squares / (n - 1), np.nan)
        pooled = np.sqrt(squares.sum(axis=-1) / np.maximum(n - 1, 0).sum(axis=-1))
    cells, seeds = np.isfinite(values).any(axis=-1), np.isfinite(values).any(axis=-2)
    own = np.isfinite(values).sum(axis=(-1, -2)) - cells.sum(axis=-1) - seeds.sum(axis=-1) + 1
    shrunk, df = _moderate(variance, n - 1, np.maximum(own, 1))
    effect, noisy = _noisier(values)
    apart = noisy[..., first] | noisy[..., second]
    sd = np.sqrt(np.where(apart, variance, shrunk))
    return Spreads(first, second, mean, n, sd, np.where(apart, n - 1.0, df), effect, pooled)


def cell_effects(values: Floats) -> tuple[Floats, Floats]:
    """``seeds.additive`` for a stack: cells' effects [..., cells] and seeds' shifts [..., seeds] of
    AP = cell + seed by least squares, for ``values`` [..., cells, seeds]."""
    known = np.isfinite(values)
    n = known.sum(axis=-1)
    filled, weight = np.where(known, values, 0.0), known.astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = filled.sum(axis=-1) / n
        share = np.where(n[..., None] > 0, weight / n[..., None], 0.0)
    across = np.swapaxes(weight, -1, -2)
    normal = -(across @ share)
    seeds = np.arange(values.shape[-1])
    normal[..., seeds, seeds] += weight.sum(axis=-2)
    right = filled.sum(axis=-2) - (across @ np.where(n > 0, mean, 0.0)[..., None])[..., 0]
    shift = (np.linalg.pinv(normal, hermitian=True) @ right[..., None])[..., 0]
    return mean - (share @ shift[..., None])[..., 0], shift


def _noisier(values: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """Cells' effects, and ``variances.noisier_cells`` for a stack: [..., cells] both."""
    known = np.isfinite(values)
    n = known.sum(axis=-1)
    cells = (n > 0).sum(axis=-1)[..., None]
    effect, shift = cell_effects(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        residual = np.where(known, values - effect[..., None] - shift[..., None, :], 0.0)
        squares = (residual**2).sum(axis=-1)
        total = squares.sum(axis=-1, keepdims=True)
        # Fitting the cell together with the rest took 1 / cells of its sum of squares away.
        own = squares * cells / (cells - 1)
        own_df = np.maximum(n - 1, 0)
        width = known.any(axis=-2).sum(axis=-1)[..., None]
        rest_df = known.sum(axis=(-1, -2))[..., None] - n - (cells - 1) - (width - 1)
        ratio = (own / own_df) / (np.maximum(total - own, 0.0) / rest_df)
        tail = special.fdtrc(np.maximum(own_df, 1), np.maximum(rest_df, 1), ratio)
    return effect, (cells >= FEWEST) & (own_df > 0) & (rest_df > 0) & (tail < NOISIER)


def _moderate(s2: Floats, df: NDArray[np.int64], most: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """``variances.moderate`` for a stack: ``s2`` and ``df`` [..., pairs], ``most`` [...]."""
    limit = most[..., None].astype(np.float64)
    known = np.isfinite(s2) & (df > 0)
    varying = known & (s2 > 0)
    count = varying.sum(axis=-1, keepdims=True)
    half = np.arange(max(int(df.max(initial=1)), 1) + 1) / 2
    half[0] = 0.5  # no degrees of freedom: never used
    at = np.maximum(df, 0)
    offset, noise = (np.log(half) - special.digamma(half))[at], special.polygamma(1, half)[at]

    def average(of: Floats) -> Floats:
        found: Floats = np.where(varying, of, 0.0).sum(axis=-1, keepdims=True) / count
        return found

    with np.errstate(invalid="ignore", divide="ignore"):
        residual = np.log(np.where(varying, s2, 1.0)) + offset
        mean = average(residual)
        spread = average((residual - mean) ** 2) * count / (count - 1) - average(noise)
        prior = np.where(spread > 0, 2 * _inverse_trigamma(np.maximum(spread, 1e-9)), np.inf)
        finite = np.where(np.isfinite(prior), prior, 1.0)
        location = np.exp(mean + special.digamma(finite / 2) - np.log(finite / 2))
        weighted = average(s2 * df) / average(np.asarray(df, dtype=np.float64))
        location = np.where(np.isfinite(prior), location, weighted)
        lent = LENT * np.minimum(prior, limit)
        shrunk = (lent * location + df * s2) / (lent + df)
    borrowed = known & (count >= FEWEST)
    return np.where(borrowed, shrunk, s2), np.where(borrowed, np.minimum(lent + df, limit), df)


def _inverse_trigamma(value: Floats) -> Floats:
    """x > 0 with trigamma(x) = ``value``, by Newton's method on 1 / trigamma (as in limma)."""
    x = 0.5 + 1 / value
    for _ in range(8):
        now = special.polygamma(1, x)
        x = x + now * (1 - now / value) / special.polygamma(2, x)
    return x
