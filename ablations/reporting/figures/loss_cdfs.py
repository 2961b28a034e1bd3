"""Figure 4: cumulative loss of positives and negatives, from the easiest sample to the hardest."""

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from ablations.analysis.loss_cdf import FIGURE_4_GAMMAS, LossCDF, loss_cdf
from ablations.reporting.figures.style import COLOURS, LINES

POINTS = 1000


def plot_loss_cdf(
    ax: Axes,
    counts: NDArray[np.int64],
    positive: bool,
    gammas: tuple[float, ...] = FIGURE_4_GAMMAS,
) -> Axes:
    """One panel of Figure 4.

    Args:
        ax: where to draw.
        counts: windows by logit, int64 [logit_histogram.LOGIT_BINS].
        positive: whether the windows are positives.
        gammas: one curve each; the model stays the same.
    """
    for index, gamma in enumerate(gammas):
        fraction, share = thinned(loss_cdf(counts, positive, gamma))
        ax.plot(fraction, share, color=COLOURS[index], ls=LINES[index], label=f"{gamma:g}")
    kind = "positives" if positive else "negatives"
    ax.set_title(f"{kind} ({_count(int(counts.sum()))} windows)", fontsize=10)
    ax.set(xlim=(0, 1), ylim=(0, 1))
    ax.set_xlabel(f"fraction of {kind}, easiest first")
    ax.set_ylabel("cumulative share of the loss")
    ax.legend(title=r"$\gamma$", loc="upper left")
    return ax


def thinned(curve: LossCDF) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The curve at ``POINTS`` fractions, closer together at the hard end: two float64 [POINTS]."""
    grid = np.unique(
        np.concatenate([np.linspace(0, 1, POINTS // 2), 1 - np.geomspace(1e-6, 1, POINTS // 2)])
    )
    return grid, np.interp(grid, curve.fraction, curve.share)


def _count(n: int) -> str:
    return f"{n:,}".replace(",", " ")
