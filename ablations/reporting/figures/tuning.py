"""AP over a tuned axis, a line for each arm."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from ablations.analysis.tuned import Tuned
from ablations.reporting.figures.style import COLOURS, LINES, MARKERS
from ablations.reporting.table_formats import plain


def plot_tuning(ax: Axes, found: Tuned, cells: pd.DataFrame) -> None:
    """Mean AP with its 95 % interval over seeds; each arm's best value is marked by a ring.

    Args:
        ax: where to draw.
        found: ``tuned.tuned``.
        cells: ``cells.cell_frame``.
    """
    for i, arm in enumerate(found.arms):
        offset = 0.06 * (i - (len(found.arms) - 1) / 2)  # so that bars do not hide each other
        x = np.arange(len(found.values)) + offset
        mean, high = (
            np.array([np.nan if label is None else cells[of][label] for label in found.labels[i]])
            for of in ("AP", "AP_high")
        )
        style = i % len(COLOURS)
        ax.errorbar(
            x,
            mean,
            yerr=np.nan_to_num(high - mean),
            color=COLOURS[style],
            ls=LINES[style],
            marker=MARKERS[style],
            capsize=3,
            elinewidth=1.2,
            label=arm,
        )
        if found.best[i] >= 0:
            best = found.best[i]
            ax.plot(x[best], mean[best], "o", ms=13, mfc="none", mec=COLOURS[style], mew=1.2)
    ax.set_xticks(range(len(found.values)), [plain(value) for value in found.values])
    ax.set_xlabel(f"{found.axis} (not to scale); ringed: the arm's best")
    ax.set_ylabel("AP (percent)")
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
