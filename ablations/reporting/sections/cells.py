"""Table 2, the paper's Tables 1a and 1b in one, and the whole grid."""

from typing import Any

import numpy as np
import pandas as pd

from ablations.analysis.cells import BestAlpha, best_alpha_by_gamma, cell_frame
from ablations.analysis.paper import FIGURES, TABLE_1B
from ablations.analysis.study import Study, gamma_alpha_labels, is_plain_ce
from ablations.reporting.figures.cells import (
    plot_ap_against_gamma,
    plot_beside_paper,
    plot_heat_map,
)
from ablations.reporting.figures.style import new_figure
from ablations.reporting.figures.writer import FigureWriter
from ablations.reporting.sections.section import Section, heading, paragraphs, picture, shown
from ablations.reporting.table_formats import MISSING, Table, number, plain, with_half_width

MOST_CELLS = 200
"""With more cells the grid's figures are left out, because they cannot be read."""

Rows = dict[str, dict[str, Any]]
"""Label -> that row of ``cell_frame``."""

OTHER_PROTOCOL = (
    "The paper's columns are COCO with its own protocol (ResNet-50-FPN, 600 px, 90k iterations): "
    "**another data set, so the levels are not comparable**, only the order of the rows is."
)


def table_2(study: Study, figures: FigureWriter) -> Section:
    """For each gamma the best alpha, beside the paper's row; one gamma makes no such table."""
    if len({gamma for gamma, _ in gamma_alpha_labels(study)}) < 2:
        return Section("")
    cells = cell_frame(study)
    rows: Rows = cells.to_dict("index")
    chosen = best_alpha_by_gamma(study, cells)
    published = {row[0]: row[1:] for row in TABLE_1B.rows}
    text_rows: list[dict[str, str]] = []
    data_rows: list[dict[str, Any]] = []
    for best in chosen:
        paper_row = published.get(best.gamma, (np.nan,) * 4)
        coordinates = {"gamma": plain(best.gamma), "alpha": plain(best.alpha)}
        text_rows.append(_row_text(coordinates, rows, best.label, paper_row))
        data = {"gamma": best.gamma, "alpha": best.alpha, "alphas_tried": best.tried}
        data_rows.append(_row_data(data, rows, best.label, paper_row))
    for label in study.labels:
        if is_plain_ce(label, study.points[label]):
            nothing = (np.nan,) * 4
            coordinates = {"gamma": "plain CE", "alpha": MISSING}
            text_rows.append(_row_text(coordinates, rows, label, nothing))
            data_rows.append(_row_data({"gamma": np.nan, "alpha": np.nan}, rows, label, nothing))
    table = Table(
        "table_2",
        "Table 2: for each gamma the alpha with the highest mean AP; box AP in percent, mean and "
        "95 % interval over seeds",
        pd.DataFrame(text_rows),
        pd.DataFrame(data_rows),
    )
    numbering = (
        "Often called Table 2; in arXiv:1708.02002v2 these rows are in Tables 1a and 1b. "
        "Plain CE (no alpha) is no row of the paper's; it has twice the scale of alpha = 0.5. "
        "The best of several alphas is picked on the numbers it is reported with, so a row's AP is "
        "a little flattering."
    )
    return Section(
        paragraphs(
            heading("Table 2: gamma with its best alpha"),
            OTHER_PROTOCOL,
            shown(table),
            numbering,
            _beside_paper(chosen, cells, figures),
        ),
        [table],
    )


def _beside_paper(chosen: list[BestAlpha], cells: pd.DataFrame, figures: FigureWriter) -> str:
    if not any(best.label for best in chosen) or len(cells) > MOST_CELLS:
        return ""
    figure = new_figure(8.0, 3.2, columns=2)
    plot_beside_paper(figure.axes[0], figure.axes[1], chosen, cells)
    name = figures.save(figure, "table_2")
    return picture(
        name,
        "AP of each gamma with its best alpha, 95 % intervals over seeds, beside the paper's Table "
        "1b on COCO: compare the shapes, not the levels",
    )


def _row_text(
    coordinates: dict[str, str],
    rows: Rows,
    label: str | None,
    paper_row: tuple[float, ...],
) -> dict[str, str]:
    ours = {metric: _cell_text(rows, label, metric) for metric in FIGURES}
    theirs = {"paper's alpha": plain(paper_row[0])} | {
        f"paper's {metric}": number(value)
        for metric, value in zip(FIGURES, paper_row[1:], strict=True)
    }
    return coordinates | ours | theirs


def _row_data(
    coordinates: dict[str, Any],
    rows: Rows,
    label: str | None,
    paper_row: tuple[float, ...],
) -> dict[str, Any]:
    row = dict(coordinates)
    for metric in FIGURES:
        row |= _cell_data(rows, label, metric)
    names = [f"paper_{name}" for name in ("alpha", *FIGURES)]
    return row | dict(zip(names, paper_row, strict=True))


def all_cells(study: Study, figures: FigureWriter) -> Section:
    """The gamma x alpha table where the grid is one, and every cell in a row of its own."""
    cells = cell_frame(study)
    rows: Rows = cells.to_dict("index")
    tables = [_flat(study, cells, rows)]
    pairs = gamma_alpha_labels(study)
    if pairs:
        tables.insert(0, _gamma_by_alpha(pairs, rows))
    drawn = _grid_figures(study, pairs, cells, figures) if pairs else ""
    texts = [shown(table) for table in tables]
    return Section(paragraphs(heading("Every cell"), *texts, drawn), tables)


def _grid_figures(
    study: Study, pairs: dict[tuple[float, float], str], cells: pd.DataFrame, figures: FigureWriter
) -> str:
    if len(pairs) > MOST_CELLS:
        return f"The figures are left out: they would show {len(pairs)} cells, not {MOST_CELLS}."
    gammas, alphas = ({pair[i] for pair in pairs} for i in (0, 1))
    figure = new_figure(1.9 + 1.25 * len(alphas), 1.0 + 0.72 * len(gammas))
    plot_heat_map(figure.axes[0], pairs, cells)
    heat = figures.save(figure, "heat_map")
    figure = new_figure(6.5, 3.6)
    plot_ap_against_gamma(figure.axes[0], pairs, cells, study.baseline)
    lines = figures.save(figure, "ap_against_gamma")
    return paragraphs(
        picture(heat, "Mean AP in percent by gamma and alpha; hatched where no trial finished"),
        picture(
            lines,
            "AP by gamma and alpha, mean and 95 % interval over seeds; the band is the baseline's"
            if study.baseline
            else "AP by gamma and alpha, mean and 95 % interval over seeds",
        ),
    )


def _gamma_by_alpha(pairs: dict[tuple[float, float], str], rows: Rows) -> Table:
    gammas = sorted({gamma for gamma, _ in pairs})
    alphas = sorted({alpha for _, alpha in pairs})
    text_rows: list[dict[str, str]] = []
    data_rows: list[dict[str, Any]] = []
    for gamma in gammas:
        labels = [pairs.get((gamma, alpha)) for alpha in alphas]
        names = [f"alpha = {plain(alpha)}" for alpha in alphas]
        texts = [_cell_text(rows, label, "AP") for label in labels]
        text_rows.append({"gamma": plain(gamma)} | dict(zip(names, texts, strict=True)))
        for alpha, label in zip(alphas, labels, strict=True):
            data_rows.append({"gamma": gamma, "alpha": alpha} | _cell_data(rows, label, "AP"))
    return Table(
        "gamma_alpha",
        "AP in percent, mean and 95 % interval over seeds",
        pd.DataFrame(text_rows),
        pd.DataFrame(data_rows),
    )


def _flat(study: Study, cells: pd.DataFrame, rows: Rows) -> Table:
    text = pd.DataFrame({"cell": cells.index})
    text["seeds"] = [
        f"{row.finished}/{row.planned}{_fewer(study, str(row.Index))}" for row in cells.itertuples()
    ]
    for metric in ("AP", "AP50", "AP75", "AP_S", "AP_M", "AP_L"):
        text[metric] = [_cell_text(rows, label, metric, explain=False) for label in rows]
    text["not finished"] = [problems or MISSING for problems in cells["problems"]]
    points = pd.DataFrame([study.points[label] for label in cells.index], index=cells.index)
    data = pd.concat([points.add_prefix("point."), cells], axis=1).reset_index()
    return Table(
        "cells",
        "Every cell: box AP in percent, mean and 95 % interval over the seeds that finished "
        "(Student's t; no interval with one seed)",
        text,
        data,
    )


def _fewer(study: Study, label: str) -> str:
    """A mark for a cell of a sequential sweep that was given fewer seeds than another."""
    if study.decided is None:
        return ""
    given = {cell.label: cell.given for cell in study.decided.cells}
    return " (fewer)" if given.get(label, 0) < max(given.values()) else ""


def _cell_text(rows: Rows, label: str | None, metric: str, explain: bool = True) -> str:
    """A cell's mean and interval, with what is missing from it."""
    if label is None:
        return MISSING
    values = _cell_data(rows, label, metric)
    problems = str(rows[label]["problems"])
    if not np.isfinite(values[metric]):
        return (problems or MISSING) if explain else MISSING
    half = (values[f"{metric}_high"] - values[f"{metric}_low"]) / 2
    text = with_half_width(values[metric], half)
    return f"{text} ({problems})" if explain and problems and metric == "AP" else text


def _cell_data(rows: Rows, label: str | None, metric: str) -> dict[str, float]:
    names = (metric, f"{metric}_low", f"{metric}_high")
    return {name: np.nan if label is None else float(rows[label][name]) for name in names}
