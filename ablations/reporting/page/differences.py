"""Every cell against any baseline, by the report's own statistics."""

from collections import Counter
from typing import Any

import pandas as pd

from ablations.analysis.comparisons import against_every_baseline
from ablations.analysis.image_bootstrap import resample_study
from ablations.analysis.study import Study
from ablations.reporting.page.numbers import significant

MOST_BASELINES = 64
"""Beyond so many cells the baseline cannot be chosen: the table has the square of their number."""
NUMBERS = ("difference", "half_seeds", "half_total", "p", "p_seeds", "p_total")


def differences_data(study: Study, labels: list[str]) -> dict[str, Any]:
    """``baselines``: label -> ``finding`` and ``rows`` (cell, seeds, ``NUMBERS``, verdict);
    ``note`` says which baselines there are not. Differences are in percentage points of AP."""
    if study.finished.empty:
        return {"baselines": {}, "note": "No trial has finished."}
    resamples = resample_study(study)
    chosen: list[str] | None = None
    note = ""
    if len(study.labels) > MOST_BASELINES:
        chosen = [study.baseline] if study.baseline is not None else []
        note = (
            f"With more than {MOST_BASELINES} cells only the report's own baseline is given; "
            "`--baseline LABEL` changes it."
        )
    frames = against_every_baseline(study, resamples, baselines=chosen)
    place = {label: index for index, label in enumerate(labels)}
    return {
        "baselines": {
            label: {"finding": _finding(label, frame), "rows": _rows(frame, place)}
            for label, frame in frames.items()
        },
        "note": note,
    }


def _rows(frame: pd.DataFrame, place: dict[str, int]) -> list[list[Any]]:
    return [
        [
            place[row["label"]],
            int(row["seeds"]),
            *(significant(row[name]) for name in NUMBERS),
            row["verdict"],
        ]
        for row in frame.to_dict("records")
        if row["label"] in place
    ]


def _finding(label: str, frame: pd.DataFrame) -> str:
    counts = Counter(frame["verdict"])
    parts = [
        f"{counts[name]} {'cell is' if counts[name] == 1 else 'cells are'} {name}"
        for name in ("higher", "higher on these images", "lower", "lower on these images")
        if counts[name]
    ]
    open_ones = counts["cannot be told apart"]
    parts.append(f"{open_ones} cannot be told apart from it")
    if counts["not compared"]:
        parts.append(f"{counts['not compared']} not compared")
    return f"Against {label}, at the 5 % level after correction over all pairs: {', '.join(parts)}."
