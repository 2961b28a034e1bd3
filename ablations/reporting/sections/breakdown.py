"""AP by class, and what the cells cost."""

from pathlib import Path

import pandas as pd

from ablations.analysis.frames import per_class_frame
from ablations.analysis.study import Study
from ablations.reporting.sections.section import Section, heading, paragraphs, shown
from ablations.reporting.tables import MISSING, Table, number

WIDEST = 20
"""Classes to show in the text; the CSV has all of them."""


def per_class(study: Study, out: Path) -> Section:
    """Mean AP over seeds by class and cell."""
    frame = per_class_frame(study.states)
    if frame.empty:
        return Section("")
    wide = frame.reindex([label for label in study.labels if label in frame.index])
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


def cost(study: Study, out: Path) -> Section:
    """Device-hours by cell, of all trials that left a record."""
    trials = study.trials[study.trials["device_s"].notna()]
    if trials.empty:
        return Section("")
    groups = trials.groupby("label", sort=False)
    data = pd.DataFrame(
        {
            "trials": groups.size(),
            "device_hours": groups["device_s"].sum() / 3600,
            "wall_s": groups["wall_s"].mean(),
            "iteration_ms": groups["iteration_s"].median() * 1000,
            "peak_memory_mb": groups["peak_memory_bytes"].max() / 1e6,
        }
    )
    data = data.reindex([label for label in study.labels if label in data.index]).reset_index()
    names = ["cell", "trials", "device-hours", "wall s a trial", "ms an iteration", "peak MB"]
    columns = [
        [str(label) for label in data["label"]],
        [str(count) for count in data["trials"]],
        [number(value, 3) for value in data["device_hours"]],
        [number(value, 1) for value in data["wall_s"]],
        [number(value, 1) for value in data["iteration_ms"]],
        [number(value, 0) for value in data["peak_memory_mb"]],
    ]
    text = pd.DataFrame(dict(zip(names, columns, strict=True)))
    total = number(float(data["device_hours"].sum()), 2)
    text.loc[len(text)] = ["all", str(len(trials)), total, MISSING, MISSING, MISSING]
    table = Table(
        "cost",
        "Cost over all attempts, failed and diverged trials included; a device is what one process "
        "runs on",
        text,
        data,
    )
    return Section(paragraphs(heading("Cost"), shown(table)), [table])
