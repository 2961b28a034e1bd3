"""The imbalance of positives and negatives, one row a detector's classification loss."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from ablations.analysis.imbalance import STAGES
from ablations.reporting.figures.style import COLOURS, GREY, MARKERS


def plot_counts(ax: Axes, frame: pd.DataFrame, names: list[str]) -> Axes:
    """Candidates and positives a training image on a logarithmic axis.

    Args:
        ax: where to draw.
        frame: ``imbalance.imbalance_frame``.
        names: of its rows.
    """
    rows = np.arange(len(frame))[::-1]
    counts = [frame[name].where(frame[name] > 0) for name in ("positives", "candidates")]
    ax.hlines(rows, *counts, color=GREY, lw=1)
    for index, (name, count) in enumerate(zip(("positives", "candidates"), counts, strict=True)):
        ax.plot(count, rows, MARKERS[index], color=COLOURS[index], label=name, ls="none")
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.set_xlabel("a training image")
    ax.set_yticks(rows, names)
    _rows(ax, len(frame))
    return ax


def plot_shares(ax: Axes, frame: pd.DataFrame) -> Axes:
    """Negatives' share of plain CE's loss at the start, the middle and the end of training."""
    rows = np.arange(len(frame))[::-1]
    for index, stage in enumerate(STAGES):
        high = np.nan_to_num(frame[f"{stage}_high"] - frame[stage])
        ax.errorbar(
            frame[stage],
            rows + 0.18 * (1 - index),
            xerr=high,
            color=COLOURS[index + 2],
            marker=MARKERS[index + 2],
            ls="none",
            capsize=2,
            elinewidth=1,
            label=stage,
        )
    ax.set_xlim(-2, 102)
    ax.set_xlabel("negatives' share of plain CE (percent)")
    ax.set_yticks(rows, [])
    _rows(ax, len(frame))
    return ax


def _rows(ax: Axes, count: int) -> None:
    ax.set_ylim(-0.6, count - 0.4)
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, fontsize=9)
