"""The gamma x alpha grid: a heat map, and AP against gamma with intervals."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Normalize

from ablations.analysis.cells import BestAlpha
from ablations.analysis.paper import TABLE_1B
from ablations.reporting.figures.style import COLOURS, GREY, HEAT, LINES, MARKERS

Pairs = Mapping[tuple[float, float], str]
"""(gamma, alpha) -> label (``study.gamma_alpha_labels``)."""


def plot_heat_map(ax: Axes, pairs: Pairs, cells: pd.DataFrame) -> Axes:
    """Mean AP of every cell; hatched, with the reason, where no trial finished.

    Args:
        ax: where to draw.
        pairs: the grid's cells.
        cells: ``cells.cell_frame``.
    """
    gammas = sorted({gamma for gamma, _ in pairs})
    alphas = sorted({alpha for _, alpha in pairs})
    means = {pair: float(cells["AP"][label]) for pair, label in pairs.items()}
    known = [value for value in means.values() if np.isfinite(value)]
    norm = Normalize(min(known, default=0.0), max(known, default=1.0))
    grid = np.full((len(gammas), len(alphas)), np.nan)
    for (gamma, alpha), value in means.items():
        grid[gammas.index(gamma), alphas.index(alpha)] = value
    image = ax.imshow(grid, cmap=HEAT, norm=norm, aspect="auto")
    for (gamma, alpha), label in pairs.items():
        row, column = gammas.index(gamma), alphas.index(alpha)
        text = _cell_text(cells, label)
        dark = norm(means[gamma, alpha]) < 0.5 if np.isfinite(means[gamma, alpha]) else False
        if not np.isfinite(means[gamma, alpha]):
            ax.fill_between(
                [column - 0.5, column + 0.5],
                row - 0.5,
                row + 0.5,
                facecolor="white",
                hatch="///",
                edgecolor="#BBBBBB",
                lw=0,
            )
        box = None if np.isfinite(means[gamma, alpha]) else {"fc": "white", "ec": "none", "pad": 1}
        colour = "white" if dark else "black"
        ax.text(column, row, text, ha="center", va="center", color=colour, fontsize=9, bbox=box)
    ax.set_xticks(range(len(alphas)), [f"{alpha:g}" for alpha in alphas])
    ax.set_yticks(range(len(gammas)), [f"{gamma:g}" for gamma in gammas])
    ax.grid(visible=False)
    ax.set_xlabel(r"$\alpha$")
    ax.set_ylabel(r"$\gamma$")
    ax.figure.colorbar(image, ax=ax, label="AP (percent)")
    return ax


def _cell_text(cells: pd.DataFrame, label: str) -> str:
    mean, high = float(cells["AP"][label]), float(cells["AP_high"][label])
    problems = str(cells["problems"][label]).replace(", ", "\n")
    if not np.isfinite(mean):
        return problems
    interval = f"\n± {high - mean:.1f}" if np.isfinite(high) else ""
    return f"{mean:.1f}{interval}" + (f"\n{problems}" if problems else "")


def plot_ap_against_gamma(
    ax: Axes, pairs: Pairs, cells: pd.DataFrame, baseline: str | None = None
) -> Axes:
    """Mean AP with its 95 % interval, one line an alpha; the baseline as a level."""
    gammas = sorted({gamma for gamma, _ in pairs})
    alphas = sorted({alpha for _, alpha in pairs})
    for index, alpha in enumerate(alphas):
        labels = [(gammas.index(g), pairs[g, alpha]) for g in gammas if (g, alpha) in pairs]
        offset = 0.08 * (index - (len(alphas) - 1) / 2)  # so that bars do not hide each other
        x = np.array([position for position, _ in labels]) + offset
        mean = np.array([float(cells["AP"][label]) for _, label in labels])
        half = np.array([float(cells["AP_high"][label]) for _, label in labels]) - mean
        style = index % len(COLOURS)
        ax.errorbar(
            x,
            mean,
            yerr=np.nan_to_num(half),
            color=COLOURS[style],
            ls=LINES[style],
            marker=MARKERS[style],
            capsize=3,
            elinewidth=1.2,
            label=rf"$\alpha$ = {alpha:g}",
        )
    if baseline is not None and np.isfinite(float(cells["AP"][baseline])):
        low, high = float(cells["AP_low"][baseline]), float(cells["AP_high"][baseline])
        ax.axhline(float(cells["AP"][baseline]), color=GREY, lw=1.2, label=baseline)
        if np.isfinite(low):
            ax.axhspan(low, high, color=GREY, alpha=0.15, lw=0)
    ax.set_xticks(range(len(gammas)), [f"{gamma:g}" for gamma in gammas])
    ax.set_xlabel(r"$\gamma$ (not to scale)")
    ax.set_ylabel("AP (percent)")
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return ax


def plot_beside_paper(ax: Axes, paper: Axes, ours: list[BestAlpha], cells: pd.DataFrame) -> None:
    """Two panels with separate axes: our best alpha by gamma, and the paper's Table 1b."""
    known = [best for best in ours if best.label is not None]
    gammas = sorted({best.gamma for best in ours})
    x = [gammas.index(best.gamma) for best in known]
    mean = np.array([float(cells["AP"][str(best.label)]) for best in known])
    high = np.array([float(cells["AP_high"][str(best.label)]) for best in known])
    ax.errorbar(
        x, mean, yerr=np.nan_to_num(high - mean), color=COLOURS[0], marker="o", capsize=3, ls="-"
    )
    ax.set_title("this sweep, best alpha", fontsize=10)
    rows = [row for row in TABLE_1B.rows if row[0] in gammas]
    paper.plot(
        [gammas.index(row[0]) for row in rows], [row[2] for row in rows], color="black", marker="s"
    )
    paper.set_title("the paper: COCO, another protocol", fontsize=10)
    alphas = {best.gamma: best.alpha for best in known}
    for axes, chosen in ((ax, alphas), (paper, {row[0]: row[1] for row in rows})):
        names = [
            f"{gamma:g}\n" + (rf"$\alpha$ {chosen[gamma]:g}" if gamma in chosen else "")
            for gamma in gammas
        ]
        axes.set_xticks(range(len(gammas)), names)
        axes.set_xlim(-0.5, len(gammas) - 0.5)
        axes.margins(y=0.15)
        axes.set_xlabel(r"$\gamma$ (not to scale) with its best $\alpha$")
        axes.set_ylabel("AP (percent)")
