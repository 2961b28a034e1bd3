"""Take trials over from other sweeps instead of training them again (``--reuse``).

The same trial id means the same experiment. A trial that finished or diverged elsewhere is copied
file by file, so that no sweep can change another's. If a copy does not verify, the trial is
trained.
"""

import shutil
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ablations.store.files import read_json, sha256, write_json
from ablations.store.manifest import TRIALS, Entry, Manifest, read_manifest, trial_folder
from ablations.store.record import (
    CHECKPOINT,
    LOG,
    PREVIOUS,
    RECORD,
    SCHEMA_VERSION,
    TRIAL,
    Record,
    damaged_files,
    read_record,
    write_record,
)
from ablations.store.states import TrialState
from ablations.sweep.errors import UsageError
from ablations.sweep.plan import trial_id

REUSABLE = "reusable"
"""In a dry run, the state of an unfinished trial that another sweep has."""


@dataclass(frozen=True)
class Source:
    """Another sweep, at the path that was given."""

    work_dir: Path
    manifest: Manifest


def read_sources(work_dirs: Sequence[Path]) -> list[Source]:
    """The sweeps in ``work_dirs``.

    Raises:
        UsageError: a directory does not exist or holds no sweep that can be read; all are named.
    """
    found, wrong = [], []
    for work_dir in work_dirs:
        try:
            manifest = read_manifest(work_dir)
        except (ValueError, OSError) as error:
            wrong.append(str(error))
            continue
        if manifest is None:
            why = "holds no sweep" if work_dir.is_dir() else "does not exist"
            wrong.append(f"--reuse {work_dir}: it {why}")
        else:
            found.append(Source(work_dir, manifest))
    if wrong:
        raise UsageError("; ".join(wrong))
    return found


def with_reusable(
    states: Sequence[TrialState], sources: Sequence[Source], annotations: dict[str, str]
) -> list[TrialState]:
    """``states``, with ``REUSABLE`` for the trials that would be taken over.

    Only the existence of their files is checked; checksums are compared when they are copied.
    """

    def state_of(state: TrialState) -> TrialState:
        if not is_open(state):
            return state
        return replace(state, state=REUSABLE) if held(state.entry.id) else state

    def held(id: str) -> bool:
        for source in sources:
            record, why = _read(source, id, annotations, by="source")
            folder = trial_folder(source.work_dir, id)
            if record and not why and all((folder / name).is_file() for name in record.files):
                return True
        return False

    return [state_of(state) for state in states]


def is_open(state: TrialState) -> bool:
    """Whether a trial may be taken over: it is neither done nor running."""
    return state.record is None and state.state != "running"


def take_over(
    work_dir: Path,
    entry: Entry,
    planned: dict[str, Any],
    sources: Sequence[Source],
    say: Callable[[str], None],
) -> bool:
    """Take a trial over from the first source whose copy verifies.

    Args:
        work_dir: of the sweep that takes it.
        entry: the trial there.
        planned: its ``trial.json`` there, with the data that it would be trained on.
        sources: where to look.
        say: called with a line that says why a copy does not verify.

    Returns:
        Whether the trial is there now, with its record.
    """
    annotations = {split: planned["data"][split]["annotations"] for split in ("train", "val")}
    for source in sources:
        record, why = _read(source, entry.id, annotations)
        draft = work_dir / TRIALS / f".{entry.id}.{uuid.uuid4().hex[:8]}"
        try:
            if record is not None and not why:
                _copy(trial_folder(source.work_dir, entry.id), draft, record)
                damaged = damaged_files(draft, record)
                why = f"{', '.join(damaged)} missing or damaged" if damaged else ""
            if record is not None and not why:
                _rewrite(draft, record, entry, planned, source)
                _move(draft, trial_folder(work_dir, entry.id))
                return True
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        if why:
            say(
                f"not taken from {source.work_dir}: {entry.label} seed {entry.seed} "
                f"({entry.id}): {why}"
            )
    return False


def _read(
    source: Source, id: str, annotations: dict[str, str], by: str = "annotations"
) -> tuple[Record | None, str]:
    """The record of a trial that ended, and what is wrong with it (but for its files).

    ``annotations`` are the checksums of the checked files, so of what is trained on: a checker that
    mends a file otherwise makes other data of it. By ``source`` they are those of the files as they
    were found, which a dry run has no others to compare with.
    """
    folder = trial_folder(source.work_dir, id)
    try:
        record = read_record(folder)
        if record is None or record.status not in ("finished", "diverged"):
            return None, ""
        identity = (read_json(folder / TRIAL) or {}).get("identity")
    except (ValueError, TypeError, AttributeError, OSError) as error:
        return None, " ".join(str(error).split())
    if record.trial_id != id:
        return record, f"its record is that of trial {record.trial_id}"
    if identity is None or trial_id(identity) != id:
        return record, f"what its {TRIAL} says was trained has another id"
    if outside := [name for name in record.files if Path(name).name != name]:
        return record, f"its record lists {outside[0]}, which is not in its folder"
    for split, digest in annotations.items():
        part = record.data.get(split, {})
        if part.get(by, part.get("annotations")) != digest:
            return record, f"its {split} annotations are not those of this sweep"
    return record, ""


def _copy(folder: Path, draft: Path, record: Record) -> None:
    draft.mkdir(parents=True)
    for name in (*record.files, LOG):
        if (folder / name).is_file():
            shutil.copyfile(folder / name, draft / name)


def _rewrite(
    draft: Path, record: Record, entry: Entry, planned: dict[str, Any], source: Source
) -> None:
    """Make the copy a trial of this sweep, and note in its record where it was trained."""
    write_json(draft / TRIAL, planned)
    write_record(
        draft,
        replace(
            record,
            sweep=planned["sweep"],
            point=entry.point,
            label=entry.label,
            data=planned["data"],
            files={**record.files, TRIAL: sha256(draft / TRIAL)},
            taken_from=record.taken_from or _origin(record, source),
            schema_version=SCHEMA_VERSION,
        ),
    )


def _origin(record: Record, source: Source) -> dict[str, str]:
    """``Record.taken_from`` for a trial that was trained in ``source``."""
    given = source.work_dir
    started = record.attempts[0].get("started", "") if record.attempts else ""
    calls = source.manifest.commands
    before = [call for call in calls if call.get("started", "") <= str(started)]
    command = (before or calls or [{}])[-1].get("command", "")
    shown = given.name if given.is_absolute() else str(given)
    return {"sweep": record.sweep, "work_dir": shown, "command": command}


def _move(draft: Path, folder: Path) -> None:
    """Put the copy in place: by one rename, or, if the folder exists, file by file, record last."""
    if not folder.exists():
        draft.rename(folder)
        return
    for path in sorted(draft.iterdir(), key=lambda path: path.name == RECORD):
        path.replace(folder / path.name)
    for name in (CHECKPOINT, PREVIOUS):
        (folder / name).unlink(missing_ok=True)
