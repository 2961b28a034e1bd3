"""Figure 2: AP against the time of an image, all detectors of a sweep, and the paper's points."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from ablations.analysis.paper import FIGURE_2, TABLE_1E
from ablations.reporting.figures.style import COLOURS, GREY, LINES, MARKERS

# Where a name stands from its point, in points of print, so that none covers another.
_PLACES = {"SSD321": (-5, 6)}


def plot_detectors(ax: Axes, frame: pd.DataFrame) -> Axes:
    """Mean AP with its 95 % interval over seeds against the fastest trial's latency; a bar leads to
    the slowest's.

    Args:
        ax: where to draw.
        frame: ``detectors.detector_frame`` of the cells that have both.
    """
    for number, (label, cell) in enumerate(frame.iterrows()):
        slower = cell["inference_ms_slowest"] - cell["inference_ms"]
        cycle, style = divmod(number, len(COLOURS))
        colour = COLOURS[style]
        ax.errorbar(
            cell["inference_ms"],
            cell["AP"],
            xerr=[[0.0], [slower]],
            yerr=np.nan_to_num(cell["AP_high"] - cell["AP"]),
            color=colour,
            ls="none",
            capsize=3,
            elinewidth=1.2,
        )
        ax.plot(
            cell["inference_ms"],
            cell["AP"],
            MARKERS[(style + cycle) % len(MARKERS)],
            color=colour,
            mfc="white" if cycle % 2 else colour,
            ms=7,
            label=str(label),
        )
    ax.set_title("this sweep", fontsize=10)
    _axes(ax)
    ax.margins(0.12)
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=2, fontsize=9)
    return ax


def plot_published(ax: Axes) -> Axes:
    """The paper's Figure 2: RetinaNet at two depths and five scales (Table 1e), and the others."""
    table = TABLE_1E.frame()
    for number, (depth, rows) in enumerate(table.groupby("depth")):
        ax.plot(
            rows["time_ms"],
            rows["AP"],
            color=COLOURS[number],
            ls=LINES[number],
            marker=MARKERS[number],
            label=f"RetinaNet-{depth}, 400 to 800 px",
        )
    others = FIGURE_2.frame()
    ax.plot(others["time_ms"], others["AP"], "D", color=GREY, ms=5, label="others, as named")
    for name, ap, ms in FIGURE_2.rows:
        right = _PLACES.get(name, (7, -4))
        ax.annotate(
            name,
            (ms, ap),
            xytext=right,
            textcoords="offset points",
            fontsize=8,
            ha="left" if right[0] > 0 else "right",
        )
    ax.set_title("the paper: COCO test-dev, another machine (M40)", fontsize=10)
    _axes(ax)
    ax.set_xlim(0, 225)
    ax.set_ylim(20, 40)
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=1, fontsize=9)
    return ax


def _axes(ax: Axes) -> None:
    ax.set_xlabel("inference (ms an image)")
    ax.set_ylabel("AP (percent)")
