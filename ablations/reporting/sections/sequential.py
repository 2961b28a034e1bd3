"""A sequential sweep: its question, its looks, and verdicts that are valid whenever it stopped."""

from dataclasses import asdict

import numpy as np
import pandas as pd

from ablations.analysis.deciding import WITHIN
from ablations.analysis.decisions import CellDecision, Decisions
from ablations.analysis.study import Study
from ablations.reporting.figures.writer import FigureWriter
from ablations.reporting.sections.section import Section, heading, paragraphs, shown
from ablations.reporting.table_formats import MISSING, Table, signed

QUESTIONS = {
    "best": "Which cells can be the best? A cell is out when it is significantly worse than the "
    "leader, the cell with the highest mean adjusted for the seeds that some cells lack.",
    "baseline": "Is each cell better or worse than the baseline {baseline}, or do they differ by "
    "less than the margin?",
}


def sequential(study: Study, figures: FigureWriter) -> Section:
    """The verdicts of a sequential design; nothing for a fixed one."""
    found = study.decided
    if found is None:
        return Section("")
    rows = [cell for cell in found.cells if cell.label in study.points]
    table = Table(
        "sequential",
        f"Verdicts; differences are AP minus that of {found.reference or 'nothing yet'}, in "
        "percentage points, with intervals that all hold together, at every look",
        pd.DataFrame([_row(cell, found) for cell in rows]),
        pd.DataFrame([asdict(cell) for cell in rows]),
    )
    return Section(
        paragraphs(heading("Sequential design"), _how(found), _where(found), shown(table)), [table]
    )


def _how(found: Decisions) -> str:
    asked = found.design
    question = QUESTIONS[asked.question].format(baseline=f"`{asked.baseline}`")
    looks = ", ".join(f"{look.seeds} ({100 * look.level:.2g} %)" for look in asked.looks)
    share = WITHIN[asked.question]
    return (
        f"{question} The margin is {asked.margin:g} AP. All that follows was declared before the "
        f"first trial: at most {len(asked.seeds)} seeds; looks when all open cells have "
        f"{looks} seeds, with the level spent at each in brackets; together "
        f"{100 * asked.alpha:g} %, which is the most that the chance of *any* wrong verdict can "
        f"be, over all cells and all looks. Of each look's level {100 * share:g} % are kept for "
        '"within the margin" (two one-sided tests), the rest is for differences; Holm\'s method '
        "corrects for the cells, differences are paired by seed, variances are moderated. A "
        "corrected p includes the cells and the looks: 0.05 or less is a verdict. A cell that "
        "diverged is out for that reason; a failed trial is missing, not bad."
    )


def _where(found: Decisions) -> str:
    done = ", ".join(str(look.seeds) for look in found.past) or "none"
    spent = f"Looks taken at {done} seeds; {100 * found.spent:.2g} % of the level is spent."
    if found.stopped:
        return f"{spent} **No answer**: {found.stopped}."
    if found.answered:
        return f"{spent} **Every question has an answer**; the sweep is over."
    left = ", ".join(found.open_cells)
    if found.next_look is None:
        return f"{spent} **The seeds are spent**; still open: {left}."
    return f"{spent} **Not over**: the next look is at {found.next_look.seeds} seeds; open: {left}."


def _row(cell: CellDecision, found: Decisions) -> dict[str, str]:
    most = max(each.given for each in found.cells)
    fewer = " (fewer)" if cell.given < most else ""
    interval = MISSING
    if np.isfinite(cell.difference) and np.isfinite(cell.low):
        interval = f"{signed(cell.difference, 2)} [{signed(cell.low, 2)}, {signed(cell.high, 2)}]"
    p = MISSING if not np.isfinite(cell.p) else f"{cell.p:.3f}"
    return {
        "cell": cell.label,
        "seeds": f"{cell.seeds}{fewer}",
        "verdict": cell.verdict,
        "since seed": str(cell.since or MISSING),
        "corrected p": "< 0.001" if cell.p < 0.001 else p,
        "difference": interval,
    }
