"""The page's cells and trials: every metric with its interval, and where a cell stands on the grid.

Metrics are COCO's six and then AP by class. All numbers come from ``ablations.analysis``.
"""

from typing import Any

import numpy as np
import pandas as pd

from ablations.analysis.cells import cell_frame, metric_values
from ablations.analysis.seeds import seed_interval
from ablations.analysis.study import Study, gamma_alpha_labels
from ablations.reporting.page.numbers import rounded
from ablations.reporting.sections.section import MOST_ROWS
from ablations.reporting.table_formats import number, plain, with_half_width
from ablations.store.record import METRICS
from ablations.store.states import TrialState

MOST_CELLS = MOST_ROWS
MOST_TRIALS = 1000
DODGE = 0.08  # of a step on the x axis, between the lines of neighbouring alphas


def shown_cells(study: Study) -> list[str]:
    """The first ``MOST_CELLS`` cells in planned order, and the baseline and the best one."""
    first = study.labels[:MOST_CELLS]
    means = study.values().mean(axis=1).dropna()
    best = None if means.empty else str(means.idxmax())
    more = dict.fromkeys(label for label in (study.baseline, best) if label is not None)
    return [*first, *(label for label in more if label not in set(first))]


def grid_data(study: Study, labels: list[str]) -> dict[str, Any]:
    """``metrics`` (names), ``coordinates`` (of the plot of AP, or ``None``), ``cells``, ``trials``,
    ``trials_left_out``."""
    names, values = metric_values(study)
    place = {label: index for index, label in enumerate(study.labels)}
    rows = [place[label] for label in labels]
    estimate = seed_interval(values[:, rows])  # arrays [metrics, cells]
    stacked = np.stack([estimate.mean, estimate.low, estimate.high], axis=-1)
    coordinates, positions = _coordinates(study, labels)
    frame = cell_frame(study).loc[labels]
    cells = [
        {
            "label": label,
            "problems": str(frame["problems"][label]),
            "values": [[rounded(x) for x in triple] for triple in stacked[:, index].tolist()],
            **positions.get(label, {}),
        }
        for index, label in enumerate(labels)
    ]
    trials = _trials(study, labels, names[len(METRICS) :])
    return {
        "metrics": [name if name in METRICS else f"AP of class {name}" for name in names],
        "coordinates": coordinates,
        "cells": cells,
        "trials": trials[:MOST_TRIALS],
        "trials_left_out": max(0, len(trials) - MOST_TRIALS),
    }


def _coordinates(
    study: Study, labels: list[str]
) -> tuple[dict[str, Any] | None, dict[str, dict[str, Any]]]:
    """Of the cells that are a gamma and an alpha: both axes, and each cell's place on them."""
    pairs = {pair: label for pair, label in gamma_alpha_labels(study).items() if label in labels}
    gammas, alphas = (sorted({pair[i] for pair in pairs}) for i in (0, 1))
    if len(gammas) < 2:
        return None, {}
    step = min(DODGE, 0.8 / len(alphas))
    positions = {
        label: {
            "x": plain(gamma),
            "line": plain(alpha),
            # Beside each other, so that the bars of an interval do not hide each other.
            "at": round(
                gammas.index(gamma) + step * (alphas.index(alpha) - (len(alphas) - 1) / 2), 4
            ),
        }
        for (gamma, alpha), label in pairs.items()
    }
    return {"x": [plain(g) for g in gammas], "lines": [plain(a) for a in alphas]}, positions


def _trials(study: Study, labels: list[str], classes: list[str]) -> list[dict[str, Any]]:
    """One entry a planned trial of the cells shown, the lowest seeds of every cell first."""
    place = {label: index for index, label in enumerate(labels)}
    states = [state for state in study.states if state.entry.label in place]
    states.sort(key=lambda state: (state.entry.seed, place[state.entry.label]))
    return [_trial(state, place[state.entry.label], classes) for state in states]


def _trial(state: TrialState, cell: int, classes: list[str]) -> dict[str, Any]:
    entry, record = state.entry, state.record
    found: dict[str, Any] = {"cell": cell, "seed": entry.seed, "id": entry.id, "state": state.state}
    found["reason"] = state.reason or ""
    if record is None:
        return found
    found["commit"] = str(record.git.get("commit") or "")[:12]
    found["dirty"] = bool(record.git.get("dirty"))
    found["from"] = record.taken_from.get("sweep", "")
    found["device_s"] = rounded(record.timings.get("device_s"), 1)
    if state.state == "finished":
        values = [record.metrics.get(name) for name in METRICS]
        values += [record.per_class.get(name) for name in classes]
        found["values"] = [rounded(value) for value in values]
    return found


def cell_table(study: Study, labels: list[str]) -> list[dict[str, Any]]:
    """The table of cells: one row each with ``label``, ``seeds``, ``problems`` and, by metric, the
    text ("50.9 ± 6.9") and the number to sort by."""
    frame: pd.DataFrame = cell_frame(study).loc[labels]
    rows = []
    for label, row in zip(labels, frame.to_dict("records"), strict=True):
        shown = []
        for metric in METRICS:
            mean, half = row[metric], row[f"{metric}_high"] - row[metric]
            text = with_half_width(mean, half) if np.isfinite(mean) else number(mean)
            shown.append((text, rounded(mean, 6)))
        rows.append(
            {
                "label": label,
                "seeds": f"{row['finished']}/{row['planned']}",
                "finished": row["finished"],
                "metrics": shown,
                "problems": row["problems"],
            }
        )
    return rows


def findings(study: Study, data: dict[str, Any]) -> list[str]:
    """For each metric one sentence: the cells with the highest and the lowest mean."""
    sentences = []
    for index, name in enumerate(data["metrics"]):
        known = [cell for cell in data["cells"] if cell["values"][index][0] is not None]
        if not known:
            sentences.append(f"{name}: no cell has a value.")
            continue
        ranked = sorted(known, key=lambda cell: cell["values"][index][0])
        high, low = ranked[-1], ranked[0]
        sentences.append(
            f"{name}: highest mean {_said(high, index)}, lowest {_said(low, index)}, of "
            f"{len(known)} cells with a finished trial."
        )
    return sentences


def _said(cell: dict[str, Any], metric: int) -> str:
    mean, low, high = cell["values"][metric]
    interval = "" if low is None else f" (95 % interval {low:.1f} to {high:.1f})"
    return f"{mean:.1f}{interval} at {cell['label']}"
