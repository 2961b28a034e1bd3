"""The sweep's book: which trials it has and how each of them stands."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ablations.sweep.files import read_json, write_json
from ablations.sweep.lease import lease_owner
from ablations.sweep.record import READABLE, SCHEMA_VERSION, STATUS, Record, read_record

MANIFEST = "manifest.json"
TRIALS = "trials"
_COMMON = ("loss", "protocol", "data", "versions", "git")  # what records of a sweep share


@dataclass(frozen=True)
class Entry:
    """One trial of a sweep as planned."""

    id: str
    point: dict[str, Any]
    label: str
    seed: int


@dataclass(frozen=True)
class Manifest:
    """``manifest.json``: what was asked for, and every trial that belongs to it."""

    sweep: str
    grid: dict[str, Any]  # name, description, table, metrics, axes (name -> values in order)
    config: str  # path of the base config as given
    options: dict[str, Any]  # everything that changes results: cfg_options, smoke, GPUs a trial
    commands: list[dict[str, str]]  # command, started (ISO 8601), machine (cores, devices)
    trials: list[Entry]
    schema_version: int = SCHEMA_VERSION


@dataclass(frozen=True)
class TrialState:
    """A trial as it stands on disk.

    ``state`` is ``pending`` (never started), ``running`` (somebody holds its lease),
    ``interrupted`` (started, not finished, nobody at work), or its record's status.
    """

    entry: Entry
    folder: Path
    state: str
    reason: str | None = None
    record: Record | None = None
    progress: dict[str, Any] = field(default_factory=dict)  # status.json


def write_manifest(work_dir: Path, manifest: Manifest) -> None:
    """Write the manifest whole, in place of the one before."""
    write_json(work_dir / MANIFEST, asdict(manifest))


def read_manifest(work_dir: Path) -> Manifest | None:
    """The manifest of a work directory, or ``None`` where there is none.

    Raises:
        ValueError: it was written by another schema.
    """
    value = read_json(work_dir / MANIFEST)
    if value is None:
        return None
    if value.get("schema_version") not in READABLE:
        raise ValueError(
            f"{work_dir / MANIFEST} has schema_version {value.get('schema_version')}; "
            f"this code reads {READABLE}"
        )
    entries = [Entry(**entry) for entry in value.pop("trials")]
    return Manifest(**value, trials=entries)


def trial_folder(work_dir: Path, trial_id: str) -> Path:
    return work_dir / TRIALS / trial_id


def trial_state(work_dir: Path, entry: Entry) -> TrialState:
    """How one trial stands, read from its folder alone."""
    folder = trial_folder(work_dir, entry.id)
    if not folder.is_dir():
        return TrialState(entry, folder, "pending")
    record = read_record(folder)
    if record is not None:
        return TrialState(entry, folder, record.status, record.reason, record)
    progress = read_json(folder / STATUS) or {}
    if lease_owner(folder) is not None:
        return TrialState(entry, folder, "running", None, None, progress)
    if not progress:
        return TrialState(entry, folder, "pending")
    reason = progress.get("reason") or "ended without a word (killed, or its machine went down)"
    return TrialState(entry, folder, "interrupted", reason, None, progress)


class Standings:
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

    Raises:
        FileNotFoundError: there is no sweep in ``work_dir``.
    """
    manifest = read_manifest(work_dir)
    if manifest is None:
        raise FileNotFoundError(f"{work_dir} holds no sweep (no {MANIFEST})")
    shared: dict[str, Any] = {}
    return manifest, [_sharing(trial_state(work_dir, e), shared) for e in manifest.trials]


def _sharing(state: TrialState, shared: dict[str, Any]) -> TrialState:
    """The same, with what its record has in common with others kept in memory once."""
    if state.record is None:
        return state
    values = ((name, getattr(state.record, name)) for name in _COMMON)
    same = {name: shared.setdefault(repr(value), value) for name, value in values}
    return replace(state, record=replace(state.record, **same))
