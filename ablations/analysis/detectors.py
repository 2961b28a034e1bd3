"""Detectors side by side: what each costs, how accurate it is, and on which objects."""

from dataclasses import replace
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ablations.analysis.cells import cell_frame
from ablations.analysis.comparisons import against_baseline
from ablations.analysis.image_bootstrap import Resamples
from ablations.analysis.object_sizes import NAMES
from ablations.analysis.seeds import ALPHA, holm
from ablations.analysis.study import Study, is_plain_ce
from ablations.store.states import TrialState

AXIS, LOSS = "detector", "loss"  # a grid's axes
SLACK_S = 3.0
"""Seconds that two trials may overlap and still count as one after the other: their times are known
to a second."""


def several_detectors(study: Study) -> bool:
    """Whether the study compares detectors: by an axis of that name, or by its trials' models."""
    if AXIS in study.axes and len({point.get(AXIS) for point in study.points.values()}) > 1:
        return True
    records = [state.record for state in study.records if state.record is not None]
    return len({record.protocol.get("detector") for record in records} - {None}) > 1


def detector_frame(study: Study) -> pd.DataFrame:
    """One row a cell in planned order, indexed by label: ``cells.cell_frame`` and

    ``params``, ``flops`` (multiply-adds of one image of ``height`` x ``width`` px), NaN where the
    records do not have them; ``inference_ms``, that of the fastest of the ``inference_n`` finished
    trials that have it, since other work on a machine only slows one, and ``inference_ms_slowest``.
    """
    frame = cell_frame(study)
    for name in ("params", "flops", "height", "width"):
        frame[name] = [_complexity(study, str(label), name) for label in frame.index]
    times = pd.DataFrame(_latencies(study), index=frame.index)
    frame["inference_ms"], frame["inference_ms_slowest"] = times.min(axis=1), times.max(axis=1)
    frame["inference_n"] = times.count(axis=1)
    return frame


def _complexity(study: Study, label: str, name: str) -> float:
    """Of the cell's first trial that has it: seeds share their detector."""
    for state in study.records:
        if state.entry.label == label and state.record is not None:
            value = _number(state.record.complexity.get(name))
            if np.isfinite(value):
                return value
    return float("nan")


def _latencies(study: Study) -> NDArray[np.float64]:
    """ms an image of the finished trials, [cells, seeds]; NaN where there is none."""
    row = {label: index for index, label in enumerate(study.labels)}
    column = {seed: index for index, seed in enumerate(study.seeds)}
    times = np.full((len(row), len(column)), np.nan)
    for state in study.finished_states:
        if state.record is not None:
            ms = _number(state.record.timings.get("inference_ms"))
            times[row[state.entry.label], column[state.entry.seed]] = ms
    return times


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and value > 0 else float("nan")


def side_by_side(study: Study) -> tuple[int, int]:
    """How many finished trials ran while another trial of the study did, and of how many that is
    not known. Trials of one machine that run at the same time slow each other down."""
    spans = [(state, span) for state in study.records for span in _spans(state)]
    beside = unknown = 0
    for state in study.finished_states:
        own = _spans(state)
        others = [span for other, span in spans if other is not state]
        if not own:
            unknown += 1
        elif any(_overlap(own[-1], span) > SLACK_S for span in others):
            beside += 1
    return beside, unknown


def _spans(state: TrialState) -> list[tuple[float, float]]:
    """When the trial's attempts began and ended, in seconds; those that do not say are left out."""
    spans = []
    for attempt in state.record.attempts if state.record is not None else ():
        started, seconds = attempt.get("started"), attempt.get("seconds")
        if isinstance(started, str) and isinstance(seconds, int | float):
            try:
                began = datetime.fromisoformat(started).timestamp()
            except ValueError:
                continue
            spans.append((began, began + seconds))
    return spans


def _overlap(one: tuple[float, float], other: tuple[float, float]) -> float:
    return min(one[1], other[1]) - max(one[0], other[0])


def size_differences(study: Study) -> pd.DataFrame:
    """AP of small, medium and large objects minus the baseline's, paired by seed.

    Columns: ``metric`` (AP_S, AP_M, AP_L), ``label``, ``seeds``, ``difference``, ``half_seeds``
    (half-width of the 95 % t interval), ``p``, ``p_corrected`` (Holm, over the cells of a size) and
    ``better``: "yes" or "no" (it is worse) at the 5 % level of ``p_corrected``, else "unclear".
    """
    parts = []
    for metric in NAMES:
        rows = against_baseline(study, Resamples(), metric)
        if rows.empty:
            return rows
        rows = rows[["label", "seeds", "difference", "half_seeds", "p"]]
        rows.insert(0, "metric", metric)
        parts.append(_decided(rows))
    return pd.concat(parts, ignore_index=True)


def loss_differences(study: Study, resamples: Resamples) -> pd.DataFrame:
    """AP of each loss minus that of plain CE on the same detector, where a grid has both axes.

    Columns: ``detector`` and ``baseline`` (label of its plain CE), then those of
    ``comparisons.against_baseline``, ``p_corrected`` (Holm, over all rows) and ``better`` as in
    ``size_differences``.
    """
    parts = []
    detectors = dict.fromkeys(point.get(AXIS) for point in study.points.values())
    for detector in detectors if LOSS in study.axes else ():
        own = [label for label in study.labels if study.points[label].get(AXIS) == detector]
        base = next((name for name in own if is_plain_ce(name, study.points[name])), None)
        if detector is not None and base is not None and len(own) > 1:
            rows = against_baseline(replace(study, labels=own, baseline=base), resamples)
            rows.insert(0, "baseline", base)
            rows.insert(0, "detector", detector)
            parts.append(rows)
    return _decided(pd.concat(parts, ignore_index=True)) if parts else pd.DataFrame()


def _decided(rows: pd.DataFrame) -> pd.DataFrame:
    """``rows`` of differences with their corrected p, and what they come to."""
    corrected = holm(rows["p"])
    sure = np.where(rows["difference"] > 0, "yes", "no")
    return rows.assign(p_corrected=corrected, better=np.where(corrected <= ALPHA, sure, "unclear"))
