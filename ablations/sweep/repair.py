"""Damaged files of a sweep: set aside and told, then built again or their trial run again.

The command does this when it has the sweep's lease, before it plans what is left. Nothing is
deleted: a file that was set aside is called ``NAME-damaged-N``.
"""

from collections.abc import Callable
from pathlib import Path

from ablations.store.files import read_json, set_aside, sha256
from ablations.store.lease import lease_owner
from ablations.store.manifest import (
    MANIFEST,
    TRIALS,
    DamagedManifestError,
    Entry,
    read_manifest,
    trial_folder,
)
from ablations.store.record import (
    CURVE,
    PREDICTIONS,
    PROBABILITIES,
    RECORD,
    TRIAL,
    DamagedRecordError,
    LaterRecordError,
    Record,
    read_record,
)
from ablations.store.status import read_status
from ablations.sweep.errors import UsageError
from ablations.sweep.request import Request

Say = Callable[[str], object]

_CHECKED = (CURVE, PREDICTIONS, PROBABILITIES)  # what reports read; weights are only kept


def repair(request: Request, say: Say = print) -> None:
    """Set the damaged files of the sweep and of the request's trials aside, with a line each.

    Trials that a process runs are left alone: it repairs its own.

    Raises:
        UsageError: a record was written by a later version of this code, or the manifest is damaged
            and the trials that are there are none of the request's.
    """
    _repair_manifest(request, say)
    for entry in {entry.id: entry for entry in request.entries()}.values():
        folder = trial_folder(request.work_dir, entry.id)
        if folder.is_dir() and lease_owner(folder) is None:
            _repair_trial(folder, entry, say)


def _repair_manifest(request: Request, say: Say) -> None:
    try:
        read_manifest(request.work_dir)
    except DamagedManifestError as error:
        there = {path.name for path in (request.work_dir / TRIALS).glob("*") if path.is_dir()}
        if there and not there & {entry.id for entry in request.entries()}:
            raise UsageError(
                f"{error}; the trials that are there are none of this command's"
            ) from error
        kept = set_aside(request.work_dir / MANIFEST)
        say(f"{request.work_dir / MANIFEST} is damaged and now {kept.name}; it is built again")


def _repair_trial(folder: Path, entry: Entry, say: Say) -> None:
    name = f"{entry.label} seed {entry.seed} ({entry.id})"
    try:
        record = read_record(folder)
        if record is not None and (damaged := _damaged_results(folder, record)):
            for each in damaged:
                set_aside(folder / each)
            raise DamagedRecordError(f"{', '.join(damaged)} is not what was written")
    except LaterRecordError as error:
        raise UsageError(str(error)) from error
    except DamagedRecordError as error:
        kept = "set aside"
        if (folder / RECORD).exists():
            kept = f"its record is now {set_aside(folder / RECORD).name}"
        say(f"{name} runs again, {kept}: {str(error).replace(f'{folder}/', '')}")
    if (folder / TRIAL).exists() and not _is_plan(folder):
        say(f"{name}: {TRIAL} is damaged and now {set_aside(folder / TRIAL).name}")


def _damaged_results(folder: Path, record: Record) -> list[str]:
    """The files of a result that have changed since they were written; those that are gone, which
    somebody has removed, are none."""
    expected = {name: digest for name, digest in record.files.items() if name in _CHECKED}
    if isinstance(of_record := read_status(folder).get("record"), str):
        expected[RECORD] = of_record
    return [
        name
        for name, digest in expected.items()
        if (folder / name).is_file() and sha256(folder / name) != digest
    ]


def _is_plan(folder: Path) -> bool:
    try:
        found = read_json(folder / TRIAL)
    except ValueError:
        return False
    needed = {"id", "sweep", "point", "label", "seed", "loss", "data"}
    return isinstance(found, dict) and needed <= set(found) and found["id"] == folder.name


def planned_entries(work_dir: Path) -> list[Entry]:
    """The trials whose folders are there, for a manifest that is built again; by seed and label."""
    found = []
    for folder in (work_dir / TRIALS).glob("*"):
        if folder.is_dir() and _is_plan(folder):
            trial = read_json(folder / TRIAL)
            found.append(Entry(trial["id"], trial["point"], trial["label"], trial["seed"]))
    return sorted(found, key=lambda entry: (str(entry.seed), entry.label, entry.id))
