"""Positives and negatives in training: how many there are, and who holds the loss."""

from typing import Any

import numpy as np
import pandas as pd

from ablations.analysis.seeds import seed_interval
from ablations.analysis.study import Study

STAGES = ("start", "middle", "end")
FIGURES = ("candidates", "positives", "ratio", "drawn_from", "drawn_from_positives", *STAGES)


def imbalance_frame(study: Study) -> pd.DataFrame:
    """One row a cell and watched loss, in planned order, of the finished trials.

    Columns: ``label``, ``head`` (its path in the model), ``unit`` (anchors, locations, proposals),
    ``seeds`` (trials that have it), and by name the mean over them with ``NAME_low`` and
    ``NAME_high`` (95 % Student t interval; NaN for one seed) of ``candidates`` and ``positives`` (a
    training image), ``ratio`` (candidates a positive), ``drawn_from`` and ``drawn_from_positives``
    (the candidates and positives before a sampler drew some), ``start``, ``middle``, ``end``
    (negatives' share of plain CE's loss then, in percent). NaN where a record does not have it.
    """
    found: dict[tuple[str, str, str], list[list[float]]] = {}
    for state in study.finished_states:
        for entry in state.record.imbalance if state.record is not None else ():
            key = state.entry.label, str(entry.get("head", "")), str(entry.get("unit", ""))
            found.setdefault(key, []).append(_figures(entry))
    order = {label: index for index, label in enumerate(study.labels)}
    rows = []
    for label, head, unit in sorted(found, key=lambda key: order[key[0]]):
        values = np.array(found[label, head, unit])  # [seeds, figures]
        row: dict[str, Any] = {"label": label, "head": head, "unit": unit, "seeds": len(values)}
        estimate = seed_interval(values.T)
        for i, name in enumerate(FIGURES):
            row[name] = estimate.mean[i]
            row[f"{name}_low"], row[f"{name}_high"] = estimate.low[i], estimate.high[i]
        rows.append(row)
    return pd.DataFrame(rows)


def _figures(entry: dict[str, Any]) -> list[float]:
    candidates, positives = _number(entry.get("candidates")), _number(entry.get("positives"))
    ratio = candidates / positives if positives > 0 else float("nan")
    before = _dict(entry.get("before_sampling"))
    shares = _dict(entry.get("ce_negative_share"))
    drawn = [_number(before.get(name)) for name in ("candidates", "positives")]
    return [candidates, positives, ratio, *drawn, *(100 * _number(shares.get(s)) for s in STAGES)]


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")


def not_watched(study: Study) -> dict[str, list[str]]:
    """Why nothing was watched -> labels of the cells that say so."""
    found: dict[str, list[str]] = {}
    for state in study.finished_states:
        reason = state.record.imbalance_missing if state.record is not None else None
        if reason and state.entry.label not in found.setdefault(reason, []):
            found[reason].append(state.entry.label)
    return found
