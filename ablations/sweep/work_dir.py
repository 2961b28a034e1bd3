"""Write a sweep's work directory: manifest, annotations, and a folder for each trial."""

import contextlib
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ablations import machine
from ablations.shipped import called_ablate
from ablations.store.config import classification_loss, config_text
from ablations.store.files import put_in_place, set_aside, write_json, write_text
from ablations.store.manifest import Entry, Manifest, read_manifest, trial_folder, write_manifest
from ablations.store.record import CONFIG, RECORD, TRIAL, read_record
from ablations.sweep.plan import Trial
from ablations.sweep.repair import planned_entries
from ablations.sweep.request import Request
from ablations.sweep.reuse import is_open, take_over

WRITERS = 16  # files written at a time


def write_sweep(
    request: Request,
    data: dict[str, Any],
    command: Sequence[str],
    say: Callable[[str], None] = print,
) -> None:
    """Write the manifest, the annotations and a folder for each trial into the work directory.

    Trials that the request's sources have are copied from there. An empty ``command`` is not noted:
    that of a later round of one that is.
    """
    work_dir = request.work_dir
    _keep_annotations(work_dir, data)
    manifest = _manifest(request)
    if command:
        manifest = replace(manifest, commands=[*manifest.commands, _this_command(command)])
    write_manifest(work_dir, manifest)
    if request.sources:
        _take_over(request, data, say)
    _write_trials(request, data)


def update_manifest(request: Request) -> bool:
    """Bring the manifest of a sweep in which nothing is left to train up to date: the grid's title,
    note and baseline, and points that are trials it has under another label.

    Returns:
        Whether anything has changed.
    """
    manifest = _manifest(request)
    if manifest == read_manifest(request.work_dir):
        return False
    if not manifest.commands:  # it is built again
        manifest = replace(manifest, commands=[_this_command(command_line())])
    write_manifest(request.work_dir, manifest)
    return True


def _this_command(command: Sequence[str]) -> dict[str, str]:
    return {
        "command": " ".join(command),
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": machine.description(),
    }


def _manifest(request: Request) -> Manifest:
    """The manifest with what the request adds to it, or that of a new sweep."""
    manifest = read_manifest(request.work_dir)
    known, added = (manifest.trials if manifest else request.entries()), request.entries()
    if manifest is None:
        added = planned_entries(request.work_dir)  # there are some if a manifest was damaged
        manifest = Manifest(
            sweep=request.work_dir.name,
            grid={},
            config=request.config,
            options=request.options,
            commands=[],
            trials=[],
        )
    names = {(entry.id, entry.label, entry.seed) for entry in known}
    added = [entry for entry in added if (entry.id, entry.label, entry.seed) not in names]
    decide = manifest.decide or request.decide
    grid = request.grid.describe()
    return replace(manifest, grid=grid, trials=[*known, *added], decide=decide)


def _take_over(request: Request, data: dict[str, Any], say: Callable[[str], None]) -> None:
    planned = {trial.id: trial for trial in request.trials}
    left = {s.entry.id: s.entry for s in request.states() if is_open(s)}
    taken = 0
    for id, entry in left.items():
        trial_json = _trial_json(request, planned[id], entry, data)
        taken += take_over(request.work_dir, entry, trial_json, request.sources, say)
    names = ", ".join(str(source.work_dir) for source in request.sources)
    say(f"taken over from {names}: {taken} of {len(left)} trials that are not done")


def _write_trials(request: Request, data: dict[str, Any]) -> None:
    texts: dict[int, str] = {}  # what trials share is formatted once

    def write(trial: Trial, entry: Entry) -> None:
        folder = trial_folder(request.work_dir, trial.id)
        folder.mkdir(parents=True, exist_ok=True)
        text = _header(entry) + config_text(trial.config, texts)
        if not _says(folder / CONFIG, text):
            write_text(folder / CONFIG, text)
        if not (folder / TRIAL).is_file():
            write_json(folder / TRIAL, _trial_json(request, trial, entry, data))

    open_: dict[str, tuple[Trial, Entry]] = {}  # two points with the same config share a trial
    for trial, entry in zip(request.trials, request.entries(), strict=True):
        folder = trial_folder(request.work_dir, trial.id)
        if not ((folder / RECORD).is_file() and (folder / TRIAL).is_file()):
            open_.setdefault(trial.id, (trial, entry))
    with ThreadPoolExecutor(WRITERS) as pool:  # writing waits for the disk
        for done in [pool.submit(write, *pair) for pair in open_.values()]:
            done.result()


def _says(path: Path, text: str) -> bool:
    """Whether a file is there and whole; one that was damaged is written again."""
    with contextlib.suppress(FileNotFoundError):
        return path.read_bytes() == text.encode()
    return False


def _header(entry: Entry) -> str:
    return f'"""{entry.label}, seed {entry.seed}: the resolved config of trial {entry.id}."""\n\n'


def _trial_json(
    request: Request, trial: Trial, entry: Entry, data: dict[str, Any]
) -> dict[str, Any]:
    return {
        "id": trial.id,
        "sweep": request.work_dir.name,
        "point": entry.point,
        "label": entry.label,
        "seed": entry.seed,
        "loss": classification_loss(trial.config),
        "data": data,
        "identity": trial.identity,
    }


def _keep_annotations(work_dir: Path, data: dict[str, Any]) -> None:
    """Copy the validation annotations, so that reports can resample images without the data."""
    val = data["val"]
    kept = work_dir / f"annotations-{val['annotations']}.json"
    if not kept.exists():
        work_dir.mkdir(parents=True, exist_ok=True)
        draft = kept.with_suffix(".draft")
        shutil.copyfile(val["file"], draft)
        put_in_place(draft, kept)


def set_failed_aside(request: Request) -> int:
    """Rename the records of failed trials, so that they run again; returns their number."""
    count = 0
    for trial in {trial.id: trial for trial in request.trials}.values():
        folder = trial_folder(request.work_dir, trial.id)
        record = read_record(folder)
        if record is not None and record.status == "failed":
            set_aside(folder / RECORD, "failed")
            count += 1
    return count


def command_line() -> list[str]:
    """The command as a person would type it."""
    if called_ablate():
        return list(sys.argv)
    script = Path(sys.argv[0])
    with contextlib.suppress(ValueError):
        script = script.resolve().relative_to(Path.cwd())
    return ["python", os.fspath(script), *sys.argv[1:]]
