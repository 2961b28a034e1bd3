"""Training curves: the classification loss, and how much of it the positives and negatives hold."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from ablations.reporting.figures.style import COLOURS, LINES


def plot_loss(ax: Axes, curves: dict[str, pd.DataFrame]) -> Axes:
    """Classification loss (solid) and box loss (thin) by iteration, one colour a trial.

    Args:
        ax: where to draw.
        curves: label -> ``curves.read_curve``.
    """
    for index, (label, curve) in enumerate(curves.items()):
        colour = COLOURS[index % len(COLOURS)]
        x = curve["iteration"]
        ax.plot(x, curve["loss_cls"], color=colour, ls=LINES[index % len(LINES)], label=label)
        ax.plot(x, curve["loss_bbox"], color=colour, ls=LINES[index % len(LINES)], lw=0.8)
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.set_xlabel("iteration")
    ax.set_ylabel("loss (nats per positive anchor)\nthick: classification, thin: boxes")
    ax.legend(fontsize=8)
    return ax


def plot_negative_share(ax: Axes, curves: dict[str, pd.DataFrame]) -> Axes:
    """Share of the classification loss that comes from negatives; the rest is the positives'."""
    for index, (label, curve) in enumerate(curves.items()):
        total = curve["loss_cls_positive"] + curve["loss_cls_negative"]
        share = 100 * curve["loss_cls_negative"] / total.where(total > 0, np.nan)
        if share.notna().any():
            ax.plot(
                curve["iteration"],
                share,
                color=COLOURS[index % len(COLOURS)],
                ls=LINES[index % len(LINES)],
                label=label,
            )
    ax.set_ylim(0, 100)
    ax.set_xlabel("iteration")
    ax.set_ylabel("share of the classification loss\nfrom negatives (percent)")
    return ax
