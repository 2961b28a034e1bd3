"""Paired differences with their intervals, one row a cell."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from ablations.reporting.figures.style import COLOURS, GREY


def plot_differences(ax: Axes, differences: pd.DataFrame, baseline: str) -> Axes:
    """``differences`` is ``comparisons.against_baseline``: a thick bar over seeds, a thin one over
    seeds and images; a hollow point where there is one seed and so no bar."""
    rows = np.arange(len(differences))[::-1]
    middle = differences["difference"].to_numpy(dtype=np.float64)
    seeds = differences["half_seeds"].to_numpy(dtype=np.float64)
    total = differences["half_total"].to_numpy(dtype=np.float64)
    known = np.isfinite(seeds)
    ax.axvline(0, color=GREY, lw=1)
    both = np.isfinite(total)
    ax.hlines(
        rows[both],
        (middle - total)[both],
        (middle + total)[both],
        color=COLOURS[1],
        lw=1.4,
        label="over seeds and images",
    )
    ax.hlines(
        rows[known],
        (middle - seeds)[known],
        (middle + seeds)[known],
        color=COLOURS[0],
        lw=4,
        label="over seeds",
    )
    ax.plot(middle[known], rows[known], "o", color="black", ms=5, label="mean")
    ax.plot(middle[~known], rows[~known], "o", mfc="white", mec="black", ms=5, label=None)
    ax.set_yticks(rows, list(differences["label"]))
    ax.grid(axis="y", visible=False)
    ax.set_ylim(-0.7, len(rows) - 0.3)
    ax.set_xlabel(f"AP minus that of {baseline} (percentage points)")
    if known.any():
        ax.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=3)
    return ax
