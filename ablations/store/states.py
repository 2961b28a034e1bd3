"""The states of a sweep's trials, read from their folders alone."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ablations.store.lease import lease_owner
from ablations.store.manifest import MANIFEST, Entry, Manifest, read_manifest, trial_folder
from ablations.store.record import DamagedRecordError, Record, read_record
from ablations.store.status import read_status

_COMMON = ("loss", "protocol", "data", "versions", "git")  # equal in most records of a sweep


@dataclass(frozen=True)
class TrialState:
    """The state of one trial.

    ``state`` is ``pending`` (never started), ``running`` (a process owns its lease),
    ``interrupted`` (started, not over, not running), the status in its record, or ``damaged`` (its
    files cannot be read; ``reason`` says why).
    """

    entry: Entry
    folder: Path
    state: str
    reason: str | None = None
    record: Record | None = None
    progress: dict[str, Any] = field(default_factory=dict)  # status.json


def trial_state(work_dir: Path, entry: Entry) -> TrialState:
    """The state of one trial, read from its folder."""
    folder = trial_folder(work_dir, entry.id)
    try:
        return _state(folder, entry)
    except (DamagedRecordError, OSError) as error:
        reason = str(error).replace(f"{folder}{os.sep}", "")
        return TrialState(entry, folder, "damaged", " ".join(reason.split()))


def _state(folder: Path, entry: Entry) -> TrialState:
    if not folder.is_dir():
        return TrialState(entry, folder, "pending")
    record = read_record(folder)
    if record is not None:
        return TrialState(entry, folder, record.status, record.reason, record)
    progress = read_status(folder)
    if lease_owner(folder) is not None:
        return TrialState(entry, folder, "running", None, None, progress)
    if not progress:
        return TrialState(entry, folder, "pending")
    unknown = "ended without giving a reason (killed, or its machine went down)"
    reason = progress.get("reason") or unknown
    return TrialState(entry, folder, "interrupted", reason, None, progress)


class StateReader:
    """Reads the states of some trials again and again.

    A trial is not read again if its state cannot have changed: it has a record, or nothing was
    made, renamed or removed in its folder since.
    """

    def __init__(self, work_dir: Path, entries: Sequence[Entry]) -> None:
        self._states = [TrialState(e, trial_folder(work_dir, e.id), "pending") for e in entries]
        self._seen: list[int | None] = [-1] * len(entries)  # the folders' times of change
        self._work_dir = work_dir

    def read(self) -> list[TrialState]:
        """The states now, in the order of the entries."""
        for index, state in enumerate(self._states):
            if state.record is not None:
                continue
            changed = _settled(state.folder)
            # Only "pending" cannot change by itself: elsewhere a lease may expire.
            if state.state != "pending" or changed == -1 or changed != self._seen[index]:
                self._states[index] = trial_state(self._work_dir, state.entry)
                self._seen[index] = changed
        return list(self._states)


def _settled(folder: Path) -> int | None:
    """When something was last made, renamed or removed in a folder, in nanoseconds.

    ``None`` if there is no folder. -1 if the change is less than two seconds old: file systems date
    changes coarsely, so the next change might get the same time.
    """
    try:
        changed = folder.stat().st_mtime_ns
    except FileNotFoundError:
        return None
    return changed if time.time_ns() - changed > 2e9 else -1


def sweep_states(work_dir: Path) -> tuple[Manifest, list[TrialState]]:
    """The manifest of a work directory and the state of each of its trials, in planned order.

    Raises:
        FileNotFoundError: there is no sweep in ``work_dir``.
        ValueError: its manifest cannot be read.
    """
    manifest = read_manifest(work_dir)
    if manifest is None:
        raise FileNotFoundError(f"{work_dir} holds no sweep (no {MANIFEST})")
    shared: dict[str, Any] = {}
    return manifest, [_sharing(trial_state(work_dir, entry), shared) for entry in manifest.trials]


def _sharing(state: TrialState, shared: dict[str, Any]) -> TrialState:
    """The same state; values that equal those of earlier records are kept in memory once."""
    if state.record is None:
        return state
    values = ((name, getattr(state.record, name)) for name in _COMMON)
    same = {name: shared.setdefault(repr(value), value) for name, value in values}
    return replace(state, record=replace(state.record, **same))
