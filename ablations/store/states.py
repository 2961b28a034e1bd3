"""How the trials of a sweep stand, read from their folders alone."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ablations.store.lease import lease_owner
from ablations.store.manifest import MANIFEST, Entry, Manifest, read_manifest, trial_folder
from ablations.store.record import Record, read_record
from ablations.store.status import read_status

_COMMON = ("loss", "protocol", "data", "versions", "git")  # what records of a sweep share


@dataclass(frozen=True)
class TrialState:
    """A trial as it stands on disk.

    ``state`` is ``pending`` (never started), ``running`` (somebody holds its lease),
    ``interrupted`` (started, not finished, nobody at work), its record's status, or, where a whole
    sweep is looked at, ``damaged`` (what the trial left cannot be read).
    """

    entry: Entry
    folder: Path
    state: str
    reason: str | None = None
    record: Record | None = None
    progress: dict[str, Any] = field(default_factory=dict)  # status.json


def trial_state(work_dir: Path, entry: Entry) -> TrialState:
    """How one trial stands, read from its folder alone."""
    folder = trial_folder(work_dir, entry.id)
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
    reason = progress.get("reason") or "ended without a word (killed, or its machine went down)"
    return TrialState(entry, folder, "interrupted", reason, None, progress)


class StateReader:
    """How some trials of a sweep stand, asked for again and again.

    What cannot have changed is not read again: a trial that has a record, and a folder without one
    in which nothing was made, renamed or removed.
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
            # Beyond "pending" time alone can change a state: a lease runs out.
            if state.state != "pending" or changed == -1 or changed != self._seen[index]:
                self._states[index] = trial_state(self._work_dir, state.entry)
                self._seen[index] = changed
        return list(self._states)


def _settled(folder: Path) -> int | None:
    """When something was last made, renamed or removed in a folder, in nanoseconds; ``None``
    without one, -1 where that is so recent that the next change may bear the same time."""
    try:
        changed = folder.stat().st_mtime_ns
    except FileNotFoundError:
        return None
    return changed if time.time_ns() - changed > 2e9 else -1


def sweep_states(work_dir: Path) -> tuple[Manifest, list[TrialState]]:
    """The manifest of a work directory and the state of each of its trials, in planned order.

    A trial whose files cannot be read is ``damaged``, with the reason.

    Raises:
        FileNotFoundError: there is no sweep in ``work_dir``.
        ValueError: its manifest cannot be read.
    """
    manifest = read_manifest(work_dir)
    if manifest is None:
        raise FileNotFoundError(f"{work_dir} holds no sweep (no {MANIFEST})")
    shared: dict[str, Any] = {}
    return manifest, [
        _sharing(_readable_state(work_dir, entry), shared) for entry in manifest.trials
    ]


def _readable_state(work_dir: Path, entry: Entry) -> TrialState:
    try:
        return trial_state(work_dir, entry)
    except (ValueError, OSError) as error:
        folder = trial_folder(work_dir, entry.id)
        reason = str(error).replace(f"{folder}{os.sep}", "")
        return TrialState(entry, folder, "damaged", " ".join(reason.split()))


def _sharing(state: TrialState, shared: dict[str, Any]) -> TrialState:
    """The same, with what its record has in common with others kept in memory once."""
    if state.record is None:
        return state
    values = ((name, getattr(state.record, name)) for name in _COMMON)
    same = {name: shared.setdefault(repr(value), value) for name, value in values}
    return replace(state, record=replace(state.record, **same))
