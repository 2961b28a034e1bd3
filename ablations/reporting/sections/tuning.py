"""Whether the answer hangs on a tuned axis: each arm at its own best value of it."""

from typing import Any

import numpy as np
import pandas as pd

from ablations.analysis.cells import cell_frame
from ablations.analysis.seeds import half_width, holm, p_value, seed_interval
from ablations.analysis.study import Study
from ablations.analysis.tuned import Tuned, tuned
from ablations.reporting.figures.style import new_figure
from ablations.reporting.figures.tuning import plot_tuning
from ablations.reporting.figures.writer import FigureWriter
from ablations.reporting.sections.section import Section, heading, paragraphs, picture, shown
from ablations.reporting.table_formats import MISSING, Table, number, plain, with_half_width


def own_best(study: Study, figures: FigureWriter) -> Section:
    """For a grid that names an axis as ``tune``: the arms over it, and at their own best value."""
    found = tuned(study)
    if found is None:
        return Section("")
    cells = cell_frame(study)
    table = _table(found, cells)
    figure = new_figure(6.5, 3.6)
    plot_tuning(figure.axes[0], found, cells)
    name = figures.save(figure, "own_best")
    described = f"AP over {found.axis}, a line for each arm, mean and 95 % interval over seeds"
    return Section(
        paragraphs(
            heading(f"Each arm at its own best {found.axis}"),
            _finding(found),
            shown(table),
            picture(name, described),
        ),
        [table],
    )


def _finding(found: Tuned) -> str:
    best = found.order(found.at_best)
    if not best:
        return f"No arm has finished all seeds at any {found.axis}, so none has a best one."
    text = f"From the lowest to the highest, each at its own best {found.axis}: {_listed(best)}."
    if found.usual is not None:
        usual = found.order(found.mean[:, found.usual])
        at = f"{found.axis}={plain(found.values[found.usual])}"
        if usual == best:
            text += f" **The order at {at} is the same.**"
        else:
            text += f" **At {at} it is another: {_listed(usual)}.**"
    if found.at_an_end:
        text += (
            f" The best {found.axis} is the first or last one tried for "
            f"{', '.join(found.at_an_end)}: a better one may lie beyond."
        )
    return text


def _listed(arms: list[str]) -> str:
    return " < ".join(arms)


def _table(found: Tuned, cells: pd.DataFrame) -> Table:
    held_out = seed_interval(found.held_out)
    difference, half, p, corrected = _differences(found)
    text_rows: list[dict[str, str]] = []
    data_rows: list[dict[str, Any]] = []
    for i, arm in enumerate(found.arms):
        text: dict[str, str] = {"arm": arm}
        data: dict[str, Any] = {"arm": arm}
        for j, value in enumerate(found.values):
            name = f"{found.axis}={plain(value)}"
            label = found.labels[i][j]
            data[name] = found.mean[i, j]
            text[name] = MISSING
            if label is not None:
                row = cells.loc[label]
                text[name] = with_half_width(row["AP"], row["AP_high"] - row["AP"])
                text[name] = row["problems"] or text[name]
            if j == found.best[i]:
                text[name] = f"**{text[name]}**"
        data |= {
            "best": found.values[found.best[i]] if found.best[i] >= 0 else None,
            "held_out": held_out.mean[i],
            "held_out_low": held_out.low[i],
            "held_out_high": held_out.high[i],
            "difference": difference[i],
            "difference_half": half[i],
            "p": p[i],
            "p_corrected": corrected[i],
        }
        text["at its own best"] = with_half_width(held_out.mean[i], held_out.half_width[i])
        if found.reference is not None:
            own = i == found.reference
            text[f"minus {found.arms[found.reference]}"] = (
                "baseline" if own else with_half_width(difference[i], half[i], sign=True)
            )
            text["p corrected"] = MISSING if own else number(corrected[i], 3)
        text_rows.append(text)
        data_rows.append(data)
    return Table(
        "own_best",
        f"Box AP in percent by {found.axis}, mean and 95 % interval over seeds, each arm's best in "
        f"bold. 'At its own best': each seed at the {found.axis} that is best over the other seeds,"
        " so that picking it does not flatter. The difference is paired by seed, both arms at their"
        " own best; p is corrected by Holm over the arms",
        pd.DataFrame(text_rows),
        pd.DataFrame(data_rows),
    )


def _differences(found: Tuned) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Of each arm from the baseline's: mean, half-width, p and corrected p [arms]."""
    nothing = np.full(len(found.arms), np.nan)
    if found.reference is None:
        return nothing, nothing, nothing, nothing
    pairs = found.held_out - found.held_out[found.reference]
    pairs[found.reference] = np.nan
    paired = seed_interval(pairs)
    p = p_value(paired.mean, paired.sd, paired.n)
    return paired.mean, half_width(paired.sd, paired.n), p, holm(p)
