"""How few positives there are among a detector's candidates, and who holds the loss."""

import pandas as pd

from ablations.analysis.imbalance import STAGES, imbalance_frame, not_watched
from ablations.analysis.study import Study
from ablations.reporting.figures.imbalance import plot_counts, plot_shares
from ablations.reporting.figures.style import new_figure
from ablations.reporting.figures.writer import FigureWriter
from ablations.reporting.sections.section import Section, heading, paragraphs, picture, shown
from ablations.reporting.table_formats import MISSING, Table, number, with_half_width

MOST_ROWS = 40
"""With more rows the figure is left out, because it cannot be read."""

ABOUT = (
    "*Candidates* are what a classification loss is taken over: anchors, locations or proposals, "
    "without the ignored ones. *Positives* are those assigned to an object. Where a sampler draws "
    "the candidates from more, *drawn from* says from how many. The last columns say "
    "how much of the loss negatives would hold if it were plain CE, at the model's own "
    "predictions: the mean over a few iterations at the start, in the middle and at the end of "
    "training. It is the same measure whatever loss was trained with. The arithmetic behind it is "
    "in `docs/focal_loss.md`."
)


def imbalance(study: Study, figures: FigureWriter) -> Section:
    """A table and a figure by cell and head; nothing where no record says anything of it."""
    frame, missing = imbalance_frame(study), not_watched(study)
    if frame.empty and not missing:
        return Section("")
    title = heading("The imbalance")
    reasons = " ".join(
        f"Not recorded for {', '.join(f'`{label}`' for label in labels)}: {reason.rstrip('.')}."
        for reason, labels in missing.items()
    )
    if frame.empty:
        return Section(paragraphs(title, reasons))
    table = Table(
        "imbalance",
        "A training image's candidates and positives, and negatives' share of plain CE's loss in "
        "percent; mean and, for the shares, 95 % interval over seeds",
        _text(frame),
        frame,
    )
    return Section(
        paragraphs(title, ABOUT, shown(table), _without_positives(frame), reasons)
        + _figure(frame, figures),
        [table],
    )


def _text(frame: pd.DataFrame) -> pd.DataFrame:
    text = pd.DataFrame({"cell": frame["label"], "head": frame["head"]})
    text["of"] = frame["unit"]
    text["candidates"] = [_count(value) for value in frame["candidates"]]
    text["positives"] = [number(value) for value in frame["positives"]]
    text["candidates a positive"] = [_count(value) for value in frame["ratio"]]
    if frame["drawn_from"].notna().any():
        text["drawn from"] = [_count(value) for value in frame["drawn_from"]]
        text["with positives"] = [number(value) for value in frame["drawn_from_positives"]]
    for stage in STAGES:
        half = frame[f"{stage}_high"] - frame[stage]
        text[f"negatives' share, {stage}"] = [
            with_half_width(mean, width) for mean, width in zip(frame[stage], half, strict=True)
        ]
    return text


def _count(value: float) -> str:
    """Whole from 100 on."""
    return f"{value:,.0f}" if value >= 100 else number(value)


def _without_positives(frame: pd.DataFrame) -> str:
    none = frame[frame["positives"] == 0]
    names = ", ".join(f"`{row.label}` ({row.head})" for row in none.itertuples())
    return f"No positive was seen for {names}, so there is no ratio ({MISSING})." if names else ""


def _figure(frame: pd.DataFrame, figures: FigureWriter) -> str:
    if len(frame) > MOST_ROWS:
        return f"\n\nThe figure is left out: it would show {len(frame)} rows, not {MOST_ROWS}."
    several = frame["label"].duplicated(keep=False)
    names = [
        f"{label}, {head.removesuffix('.bbox_head')}" if more else str(label)
        for label, head, more in zip(frame["label"], frame["head"], several, strict=True)
    ]
    figure = new_figure(8.6, 1.3 + 0.34 * len(frame), columns=2)
    plot_counts(figure.axes[0], frame, names)
    plot_shares(figure.axes[1], frame)
    name = figures.save(figure, "imbalance")
    described = (
        "Candidates and positives a training image, and how much of plain CE's loss negatives hold "
        "at three times of training, mean and 95 % interval over seeds"
    )
    return "\n\n" + picture(name, described)
