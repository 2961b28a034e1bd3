"""Borrowing strength: variances of many comparisons, each from a few seeds.

Three seeds give a variance with two degrees of freedom, too few to survive a correction for a
hundred comparisons. Smyth's moderated t (Statistical Applications in Genetics and Molecular Biology
3, 2004) takes the true variances as drawn from a scaled inverse chi-square, estimates its location
and its spread from all comparisons, and shrinks each variance towards it. If the variances agree,
they are nearly pooled; if they differ, each stays by itself.

The comparisons here are pairs of cells, and pairs share cells, so they know less than their number
says. Only a third of the degrees of freedom that the method would lend is therefore lent: simulated
sweeps then keep their error rate also where a quarter of the cells is three times as noisy as the
rest, or one cell five times (reports/benchmarks/coverage.md).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special

LENT = 1 / 3  # share of the prior degrees of freedom that is used
FEWEST = 3  # comparisons below which nothing is borrowed


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


def _inverse_trigamma(value: float) -> float:
    """x > 0 with trigamma(x) = ``value``."""

    def gap(log_x: float) -> float:
        return float(np.log(special.polygamma(1, np.exp(log_x))) - np.log(value))

    return float(np.exp(optimize.brentq(gap, -20.0, 20.0)))
