"""AP against the time of one image, as in the paper's Figure 2."""

import pandas as pd
from matplotlib.axes import Axes

from ablations.reporting.figures.style import COLOURS, LINES, MARKERS


def plot_speed(ax: Axes, cells: pd.DataFrame) -> Axes:
    """``cells`` has ``depth``, ``scale`` in px, ``inference_ms`` and ``AP`` in percent."""
    for number, (depth, group) in enumerate(cells.groupby("depth")):
        ordered = group.sort_values("scale")
        style = number % len(COLOURS)
        ax.plot(
            ordered["inference_ms"],
            ordered["AP"],
            color=COLOURS[style],
            linestyle=LINES[style],
            marker=MARKERS[style],
            label=f"depth {depth:g}",
        )
        for point in ordered.itertuples():
            ax.annotate(
                f"{point.scale:g}",
                (point.inference_ms, point.AP),
                xytext=(4, 4),
                textcoords="offset points",
                fontsize=8,
            )
    ax.set_xlabel("inference (ms an image)")
    ax.set_ylabel("AP (percent)")
    ax.legend()
    return ax
