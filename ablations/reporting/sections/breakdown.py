"""AP by class, and the cost of the cells."""

import pandas as pd

from ablations.analysis.frames import per_class_frame
from ablations.analysis.study import Study
from ablations.reporting.figures.writer import FigureWriter
from ablations.reporting.sections.section import Section, heading, paragraphs, shown
from ablations.reporting.table_formats import MISSING, Table, number

OWN = ("cell", "label")
"""Columns of the table by class that are no classes."""

WIDEST = 20
"""Classes shown in the text at most; the CSV has all."""


def per_class(study: Study, figures: FigureWriter) -> Section:
    """Mean AP over seeds by class and cell."""
    frame = per_class_frame(study.states)
    if frame.empty:
        return Section("")
    wide = frame.reindex([label for label in study.labels if label in frame.index])
    wide.columns = [f"class.{name}" if name in OWN else str(name) for name in wide.columns]
    shown_classes = list(wide.columns[:WIDEST])
    text = pd.DataFrame({"cell": wide.index})
    for name in shown_classes:
        text[str(name)] = [number(value) for value in wide[name]]
    table = Table(
        "per_class",
        "AP by class in percent, mean over seeds",
        text,
        wide.reset_index(names="label"),
    )
    more = (
        f"The first {WIDEST} of {wide.shape[1]} classes; the CSV has all."
        if wide.shape[1] > WIDEST
        else ""
    )
    return Section(paragraphs(heading("By class"), shown(table), more), [table])


def cost(study: Study, figures: FigureWriter) -> Section:
    """Device-hours by cell, of all trials that have a record.

    Device-hours of trials that were taken over from other sweeps are in a separate column.
    """
    trials = study.trials[study.trials["device_s"].notna()]
    if trials.empty:
        return Section("")
    taken = trials["taken_from"].notna()
    hours = trials["device_s"] / 3600
    trials = trials.assign(spent=hours.where(~taken, 0.0), elsewhere=hours.where(taken, 0.0))
    groups = trials.groupby("label", sort=False)
    data = pd.DataFrame(
        {
            "trials": groups.size(),
            "device_hours": groups["spent"].sum(),
            "device_hours_elsewhere": groups["elsewhere"].sum(),
            "wall_s": groups["wall_s"].mean(),
            "iteration_ms": groups["iteration_s"].median() * 1000,
            "peak_memory_mb": groups["peak_memory_bytes"].max() / 1e6,
        }
    )
    data = data.reindex([label for label in study.labels if label in data.index]).reset_index()
    text = pd.DataFrame({"cell": ["all", *data["label"]]})
    text["trials"] = [str(count) for count in (len(trials), *data["trials"])]
    for name, column in (
        ("device-hours", "device_hours"),
        ("device-hours of other sweeps", "device_hours_elsewhere"),
    ):
        text[name] = [number(data[column].sum(), 2), *(number(v, 3) for v in data[column])]
    for name, column, digits in (
        ("wall s a trial", "wall_s", 1),
        ("ms an iteration", "iteration_ms", 1),
        ("peak MB", "peak_memory_mb", 0),
    ):
        text[name] = [MISSING, *(number(value, digits) for value in data[column])]
    if not taken.any():
        text = text.drop(columns="device-hours of other sweeps")
        data = data.drop(columns="device_hours_elsewhere")
    table = Table(
        "cost",
        "Cost over all attempts, failed and diverged trials included; a device is what one process "
        "runs on",
        text,
        data,
    )
    note = (
        f"{taken.sum()} of {len(trials)} trials were taken over from other sweeps: their "
        f"{hours[taken].sum():.2f} device-hours were spent there, and "
        f"{hours[~taken].sum():.2f} here."
        if taken.any()
        else ""
    )
    return Section(paragraphs(heading("Cost"), note, shown(table)), [table])
