"""Sweeps as pandas frames: one row a trial, in long form.

Columns of a frame of trials, in this order:

- ``sweep``, ``trial_id``, ``label`` (the point for people), ``seed``;
- one column for each coordinate of the grid's points (``gamma``, ``alpha``, ...), missing where a
  point has no such coordinate; a coordinate that carries the name of another column is written as
  ``point.<name>``;
- ``state``: pending, running, interrupted, finished, diverged, failed or damaged (its
  record cannot be read), and ``reason``;
- ``taken_from``: the sweep that trained the trial, missing where that is its own;
- ``AP``, ``AP50``, ``AP75``, ``AP_S``, ``AP_M``, ``AP_L``: COCO box AP in percent;
- ``iterations``, ``iteration_s`` (median), ``wall_s``, ``device_s`` (wall x processes), all in
  seconds, ``peak_memory_bytes``, ``device``;
- ``loss_config``: the loss that was built, ``final_*``: means over the curve's last rows.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ablations.store.manifest import Manifest
from ablations.store.record import METRICS
from ablations.store.states import TrialState, sweep_states

IDENTITY = ("sweep", "trial_id", "label", "seed")
STANDING = ("state", "reason", "taken_from")
TIMINGS = ("iterations", "iteration_s", "wall_s", "device_s")
COST = (*TIMINGS, "peak_memory_bytes", "device")
RESERVED = frozenset((*IDENTITY, *STANDING, *METRICS, *COST, "loss_config"))

Sweeps = list[tuple[Manifest, list[TrialState]]]


def read_sweeps(work_dirs: Iterable[Path]) -> Sweeps:
    """Every sweep's manifest with the states of its planned trials.

    Raises:
        ValueError: a folder is no sweep, or a file in it cannot be read; one line each.
    """
    sweeps, problems = [], []
    for work_dir in work_dirs:
        try:
            sweeps.append(sweep_states(Path(work_dir)))
        except (FileNotFoundError, ValueError) as error:
            problems.append(str(error))
    if problems:
        raise ValueError("; ".join(problems))
    return sweeps


def point_columns(points: Iterable[dict[str, Any]]) -> dict[str, str]:
    """Coordinate name -> column name, for all coordinates of ``points`` in order of appearance."""
    names = dict.fromkeys(name for point in points for name in point)
    return {name: f"point.{name}" if name in RESERVED else name for name in names}


def trial_frame(sweeps: Sweeps) -> pd.DataFrame:
    """One row a planned trial; the columns are those of the module's docstring."""
    states = [(manifest.sweep, state) for manifest, trials in sweeps for state in trials]
    axes = point_columns(state.entry.point for _, state in states)
    rows = [_row(sweep, state, axes) for sweep, state in states]
    final = sorted({name for row in rows for name in row if name.startswith("final_")})
    columns = [*IDENTITY, *axes.values(), *STANDING, *METRICS, *COST, "loss_config", *final]
    frame = pd.DataFrame(rows, columns=columns)
    frame["seed"] = frame["seed"].astype(int)
    numbers = [*METRICS, *TIMINGS, "peak_memory_bytes", *final]
    frame[numbers] = frame[numbers].astype(float)
    return frame


def load_trials(work_dirs: Iterable[Path]) -> pd.DataFrame:
    """All trials of one or several sweeps as one long-form frame (see the module's docstring).

    Raises:
        ValueError: a folder is no sweep, or a file in it cannot be read.
    """
    return trial_frame(read_sweeps(work_dirs))


def per_class_frame(states: list[TrialState]) -> pd.DataFrame:
    """AP in percent by class, mean over the finished trials of a cell: one row a label, one column
    a class (missing where the class has no object)."""
    finished = [s for s in states if s.state == "finished" and s.record is not None]
    rows = [state.record.per_class for state in finished if state.record is not None]
    frame = pd.DataFrame(rows, index=[state.entry.label for state in finished], dtype=float)
    return frame.groupby(level=0, sort=False).mean()


def _row(sweep: str, state: TrialState, axes: dict[str, str]) -> dict[str, Any]:
    entry, record = state.entry, state.record
    row: dict[str, Any] = {
        "sweep": sweep,
        "trial_id": entry.id,
        "label": entry.label,
        "seed": entry.seed,
        "state": state.state,
        "reason": state.reason,
    }
    row |= {axes[name]: value for name, value in entry.point.items()}
    if record is None:
        return row
    row["taken_from"] = record.taken_from.get("sweep")
    row |= {name: _number(record.metrics.get(name)) for name in METRICS}
    row |= {name: _number(record.timings.get(name)) for name in TIMINGS}
    row["peak_memory_bytes"] = record.peak_memory_bytes or np.nan
    row["device"] = record.device
    row["loss_config"] = " ".join(f"{name}={value}" for name, value in record.loss.items())
    return row | {f"final_{name}": _number(value) for name, value in record.final.items()}


def _number(value: float | None) -> float:
    return np.nan if value is None else float(value)
