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
from ablations.store.config import config_text
from ablations.store.files import write_json, write_text
from ablations.store.manifest import Entry, Manifest, read_manifest, trial_folder, write_manifest
from ablations.store.record import CONFIG, RECORD, TRIAL, read_record
from ablations.sweep.plan import Trial
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

    Trials that the request's sources have are copied from there.
    """
    work_dir = request.work_dir
    _keep_annotations(work_dir, data)
    this = {
        "command": " ".join(command),
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": machine.description(),
    }
    manifest = _manifest(request)
    write_manifest(work_dir, replace(manifest, commands=[*manifest.commands, this]))
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
    write_manifest(request.work_dir, manifest)
    return True


def _manifest(request: Request) -> Manifest:
    """The manifest with what the request adds to it, or that of a new sweep."""
    manifest = read_manifest(request.work_dir) or Manifest(
        sweep=request.work_dir.name,
        grid={},
        config=request.config,
        options=request.options,
        commands=[],
        trials=[],
    )
    known = {(entry.id, entry.label, entry.seed) for entry in manifest.trials}
    added = [
        entry for entry in request.entries() if (entry.id, entry.label, entry.seed) not in known
    ]
    grid = request.grid.describe()
    return replace(manifest, grid=grid, trials=[*manifest.trials, *added])


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
        write_text(folder / CONFIG, _header(entry) + config_text(trial.config, texts))
        write_json(folder / TRIAL, _trial_json(request, trial, entry, data))

    new: dict[str, tuple[Trial, Entry]] = {}  # two points with the same config share a trial
    for trial, entry in zip(request.trials, request.entries(), strict=True):
        if not (trial_folder(request.work_dir, trial.id) / TRIAL).is_file():
            new.setdefault(trial.id, (trial, entry))
    with ThreadPoolExecutor(WRITERS) as pool:  # writing waits for the disk
        for done in [pool.submit(write, *pair) for pair in new.values()]:
            done.result()


def _header(entry: Entry) -> str:
    return f'"""{entry.label}, seed {entry.seed}: the resolved config of trial {entry.id}."""\n\n'


def _trial_json(
    request: Request, trial: Trial, entry: Entry, data: dict[str, Any]
) -> dict[str, Any]:
    head = trial.config.get("model", {}).get("bbox_head", {})
    loss = head.get("loss_cls", {}) if isinstance(head, dict) else {}
    return {
        "id": trial.id,
        "sweep": request.work_dir.name,
        "point": entry.point,
        "label": entry.label,
        "seed": entry.seed,
        "loss": loss,
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
        draft.replace(kept)


def set_failed_aside(request: Request) -> int:
    """Rename the records of failed trials, so that they run again; returns their number."""
    count = 0
    for trial in {trial.id: trial for trial in request.trials}.values():
        folder = trial_folder(request.work_dir, trial.id)
        record = read_record(folder)
        if record is not None and record.status == "failed":
            number = len(list(folder.glob("record-failed-*.json"))) + 1
            (folder / RECORD).rename(folder / f"record-failed-{number}.json")
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
