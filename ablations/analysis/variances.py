"""Borrowing strength: variances of many comparisons, each from a few seeds.

Three seeds give a variance with two degrees of freedom, too few to survive a correction for a
hundred comparisons. Smyth's moderated t (Statistical Applications in Genetics and Molecular Biology
3, 2004) takes the true variances as drawn from a scaled inverse chi-square, estimates its location
and its spread from all comparisons, and shrinks each variance towards it. If the variances agree,
they are nearly pooled; if they differ, each stays by itself.

The comparisons here are pairs of cells, and pairs share cells, so they know less than their number
says. Only a third of the degrees of freedom that the method would lend is therefore lent: simulated
sweeps then keep their error rate also where a quarter of the cells is three times as noisy as the
rest. A single noisy cell is another matter: the common variance is far below that of its pairs. So
cells are tested for it (``noisier_cells``), and a pair with such a cell keeps its own variance
(reports/benchmarks/coverage.md).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special, stats

from ablations.analysis.seeds import additive

LENT = 1 / 3  # share of the prior degrees of freedom that is used
FEWEST = 3  # comparisons below which nothing is borrowed
NOISIER = 0.05  # level at which a cell is found noisier than the rest


@dataclass(frozen=True)
class Moderated:
    """Shrunk ``variances`` and their ``df``, both [comparisons]."""

    variances: NDArray[np.float64]
    df: NDArray[np.float64]


def moderate(variances: ArrayLike, df: ArrayLike, most: float) -> Moderated:
    """Shrink sample variances towards their common location.

    Args:
        variances: [comparisons]; NaN where there is none.
        df: degrees of freedom of each, [comparisons].
        most: degrees of freedom that all the data have together.
    """
    s2 = np.asarray(variances, dtype=np.float64)
    d = np.broadcast_to(np.asarray(df, dtype=np.float64), s2.shape)
    known = np.isfinite(s2) & (d > 0)
    varying = known & (s2 > 0)  # two cells that are the same trial tell nothing about the spread
    if varying.sum() < FEWEST:
        return Moderated(s2, np.array(d))
    half = d[varying] / 2
    residual = np.log(s2[varying]) - special.digamma(half) + np.log(half)
    spread = residual.var(ddof=1) - special.polygamma(1, half).mean()
    if spread > 0:
        prior = 2 * _inverse_trigamma(float(spread))
        location = np.exp(residual.mean() + special.digamma(prior / 2) - np.log(prior / 2))
    else:  # as equal as variances can be
        prior, location = np.inf, np.average(s2[varying], weights=d[varying])
    lent = LENT * min(prior, most)
    shrunk = (lent * location + d * s2) / (lent + d)
    return Moderated(np.where(known, shrunk, s2), np.where(known, np.minimum(lent + d, most), d))


def noisier_cells(table: NDArray[np.float64], level: float = NOISIER) -> NDArray[np.bool_]:
    """Cells whose residuals vary more than those of the rest, by an F test each: bool [cells].

    A cell's residual is what is left of its difference from the mean of the other cells, the rest's
    is what is left after cells and seeds are fitted without it: independent, so the test is exact
    for equal seeds and normal noise. It is not corrected for the number of cells: to miss a noisy
    one costs the level, to take a quiet one for noisy only power.

    Args:
        table: values [cells, seeds]; NaN where there is none.
        level: of each test.
    """
    known = np.isfinite(table)
    n = known.sum(axis=1)
    cells = int((n > 0).sum())
    if cells < FEWEST or not (n > 1).any():
        return np.zeros(len(table), dtype=bool)
    cell, seed = additive(table)
    residual = np.where(known, table - cell[:, None] - seed, 0.0)
    # Fitting the cell together with the rest took 1 / cells of its sum of squares away.
    own = (residual**2).sum(axis=1) * cells / (cells - 1)
    rest = np.maximum((residual**2).sum() - own, 0.0)
    own_df = np.maximum(n - 1, 0)
    rest_df = known.sum() - n - (cells - 1) - (int(known.any(axis=0).sum()) - 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = (own / own_df) / (rest / rest_df)
        return np.where(
            (own_df > 0) & (rest_df > 0), stats.f.sf(ratio, own_df, rest_df) < level, False
        )


def _inverse_trigamma(value: float) -> float:
    """x > 0 with trigamma(x) = ``value``."""

    def gap(log_x: float) -> float:
        return float(np.log(special.polygamma(1, np.exp(log_x))) - np.log(value))

    return float(np.exp(optimize.brentq(gap, -20.0, 20.0)))
