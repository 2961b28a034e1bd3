"""Agreement between the study's order of the cells and the paper's."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from ablations.analysis.comparisons import ALPHA, Pairs


@dataclass(frozen=True)
class Agreement:
    """Kendall's tau over the pairs of ``cells`` that the paper ranks, and Spearman's rho.

    ``[low, high]`` contains tau's true value with 95 % confidence: pairs that the seeds cannot
    distinguish (after Holm's correction over these pairs) may have either order. The paper's order
    is taken as printed, although it has one seed a cell.
    """

    cells: int
    agree: int
    disagree: int
    open: int
    tau: float
    low: float
    high: float
    rho: float


def agreement(pairs: Pairs, means: pd.Series, published: pd.Series) -> Agreement | None:
    """Compare orders.

    Args:
        pairs: all pairs of exactly the cells that the paper has.
        means: the study's AP by label.
        published: the paper's AP by label.

    Returns:
        ``None`` for fewer than three cells.
    """
    if len(pairs.labels) < 3:
        return None
    theirs = published.reindex(pairs.labels).to_numpy(dtype=np.float64)
    ranked = theirs[pairs.first] != theirs[pairs.second]
    theirs_sign = np.sign(theirs[pairs.first] - theirs[pairs.second])[ranked]
    ours_sign = np.sign(pairs.difference)[ranked]
    told = (np.nan_to_num(pairs.p, nan=1.0) <= ALPHA)[ranked]
    agrees = ours_sign == theirs_sign
    total = int(ranked.sum())
    if not total:
        return None
    agree, disagree = int((told & agrees).sum()), int((told & ~agrees).sum())
    unknown = total - agree - disagree
    return Agreement(
        cells=len(pairs.labels),
        agree=agree,
        disagree=disagree,
        open=unknown,
        tau=float((ours_sign * theirs_sign).mean()),
        low=(agree - disagree - unknown) / total,
        high=(agree - disagree + unknown) / total,
        rho=float(stats.spearmanr(means.reindex(pairs.labels), theirs).statistic),
    )
