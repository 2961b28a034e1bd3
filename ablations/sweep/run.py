"""A sweep from its plan to its last trial: what stands between the command line and a launcher."""

import contextlib
import importlib
import json
import multiprocessing
import os
import shutil
import signal
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from ablations.sweep.dataset import check_data
from ablations.sweep.errors import UsageError
from ablations.sweep.files import read_json, write_json, write_text
from ablations.sweep.grid import Grid
from ablations.sweep.launcher import Job
from ablations.sweep.ledger import (
    Entry,
    Manifest,
    TrialState,
    read_manifest,
    trial_folder,
    trial_state,
    write_manifest,
)
from ablations.sweep.local import cpu_cores, fork_server, visible_gpus
from ablations.sweep.plan import Trial, config_text, differences
from ablations.sweep.record import CONFIG, RECORD, TRIAL, read_record
from ablations.sweep.reuse import Source, Tell, is_open, take_over

PREFLIGHT = "ablations.training.preflight"
WRITERS = 16  # files written at a time
WORTH_SHARING = 40_000  # images that the trials read in all; below, loading them ahead costs more


@dataclass(frozen=True)
class Request:
    """What was asked for on the command line, resolved."""

    grid: Grid
    config: str
    options: dict[str, Any]  # whatever changes results: cfg_options, smoke, gpus_per_trial
    work_dir: Path
    trials: Sequence[Trial]
    sources: Sequence[Source] = ()  # sweeps to take trials over from


def entries(request: Request) -> list[Entry]:
    """The request's trials as the manifest lists them."""
    return [
        Entry(trial.id, trial.point.coordinates, trial.point.label, trial.seed)
        for trial in request.trials
    ]


def states(request: Request) -> list[TrialState]:
    """How the request's trials stand in its work directory."""
    return [trial_state(request.work_dir, entry) for entry in entries(request)]


def check_continues(request: Request) -> None:
    """Refuse a work directory that was made with other options.

    Raises:
        UsageError: the options, the config or the grid have changed; the message says what.
    """
    manifest = read_manifest(request.work_dir)
    if manifest is None:
        if request.work_dir.is_dir() and any(map(_is_foreign, request.work_dir.iterdir())):
            raise UsageError(f"{request.work_dir} is not empty and holds no sweep")
        return
    old = {"grid": manifest.grid["name"], "config": manifest.config, **manifest.options}
    new = {"grid": request.grid.name, "config": request.config, **request.options}
    changed = differences(old, json.loads(json.dumps(new)))  # a manifest has no tuples
    if not changed:
        changed = _changed_trials(request, manifest)
    if changed:
        raise UsageError(
            f"{request.work_dir} holds a sweep with other settings ({'; '.join(changed[:5])}); "
            "use another --work-dir, or the settings it began with"
        )


def _is_foreign(path: Path) -> bool:
    """Whether a file is more than what a start leaves that was stopped before its manifest."""
    return not path.name.startswith(("annotations-", ".annotations."))


def _changed_trials(request: Request, manifest: Manifest) -> list[str]:
    """Where a point and seed of the sweep now mean another experiment than they did."""
    known = {(entry.label, entry.seed): entry.id for entry in manifest.trials}
    for trial in request.trials:
        before = known.get((trial.point.label, trial.seed))
        if before is not None and before != trial.id:
            stored = read_json(trial_folder(request.work_dir, before) / TRIAL) or {}
            return differences(stored.get("identity", {}), trial.identity) or [trial.point.label]
    return []


def shares_data(request: Request, trials: int) -> bool:
    """Whether it pays to load the training data once, before so many local trials are forked."""
    config = request.trials[0].config
    batch = config["train_dataloader"]["batch_size"]
    images = batch * config["train_cfg"].get("max_iters", 0)
    return images * trials > WORTH_SHARING


def preflight(request: Request) -> dict[str, Any]:
    """Build the plan's losses and check its data, in a process that may import torch.

    Where trials share their data that is not the process they are forked from: the data may only
    be made here.

    Returns:
        ``notes`` to print and ``data`` for the records.

    Raises:
        UsageError: something is wrong with the plan; the message is one line.
    """
    share = shares_data(request, sum(map(is_open, states(request))))
    context = multiprocessing.get_context("spawn") if share else fork_server(PREFLIGHT)
    receiver, sender = context.Pipe(duplex=False)
    seed = request.trials[0].seed
    configs = [trial.config for trial in request.trials if trial.seed == seed]
    process = context.Process(target=_check, args=(sender, configs, request.work_dir))
    process.start()
    sender.close()
    try:
        answer = receiver.recv()
    except EOFError:
        process.join()
        raise UsageError(
            f"checking the plan ended with status {process.exitcode}; see above"
        ) from None
    process.join()
    return _passed(answer)


def preflight_without_torch(request: Request) -> dict[str, Any]:
    """The part of ``preflight`` that a login node can do: the data.

    Raises:
        UsageError: something is wrong with the data; the message is one line.
    """
    return _passed(check_data(request.trials[0].config, request.work_dir))


def _passed(answer: dict[str, Any]) -> dict[str, Any]:
    if answer["errors"]:
        raise UsageError("; ".join(answer["errors"][:3]))
    return answer


def _check(sender: Connection, configs: list[dict[str, Any]], work_dir: Path) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    sender.send(importlib.import_module(PREFLIGHT).check(configs, work_dir))


def job(request: Request, todo: Sequence[Entry]) -> Job:
    """What a launcher is to run of the request."""
    gpus, share = request.options["gpus_per_trial"], shares_data(request, len(todo))
    return Job(request.work_dir, todo, gpus_per_trial=gpus, share_data=share)


def write_sweep(
    request: Request, data: dict[str, Any], command: Sequence[str], tell: Tell = print
) -> None:
    """Add the request to its work directory: manifest, annotations, a folder for each trial, taken
    over whole from the request's sources where they have it."""
    work_dir = request.work_dir
    _keep_annotations(work_dir, data)
    manifest = read_manifest(work_dir) or Manifest(
        sweep=work_dir.name,
        grid=request.grid.describe(),
        config=request.config,
        options=request.options,
        commands=[],
        trials=[],
    )
    known = {(entry.id, entry.label, entry.seed) for entry in manifest.trials}
    added = [
        entry for entry in entries(request) if (entry.id, entry.label, entry.seed) not in known
    ]
    this = {
        "command": " ".join(command),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
    }
    write_manifest(
        work_dir,
        replace(
            manifest,
            grid=request.grid.describe(),
            commands=[*manifest.commands, this],
            trials=[*manifest.trials, *added],
        ),
    )
    if request.sources:
        _take_over(request, data, tell)
    _write_trials(request, data)


def _take_over(request: Request, data: dict[str, Any], tell: Tell) -> None:
    planned = {trial.id: trial for trial in request.trials}
    left = {s.entry.id: s.entry for s in states(request) if is_open(s)}
    taken = 0
    for id, entry in left.items():
        trial_json = _trial_json(request, planned[id], entry, data)
        taken += take_over(request.work_dir, entry, trial_json, request.sources, tell)
    names = ", ".join(str(source.work_dir) for source in request.sources)
    tell(f"taken over from {names}: {taken} of {len(left)} trials that are not done")


def _write_trials(request: Request, data: dict[str, Any]) -> None:
    texts: dict[int, str] = {}  # what trials share is formatted once

    def write(trial: Trial, entry: Entry) -> None:
        folder = trial_folder(request.work_dir, trial.id)
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / CONFIG, _header(entry) + config_text(trial.config, texts))
        write_json(folder / TRIAL, _trial_json(request, trial, entry, data))

    new: dict[str, tuple[Trial, Entry]] = {}  # points that are one experiment share a trial
    for trial, entry in zip(request.trials, entries(request), strict=True):
        if not (trial_folder(request.work_dir, trial.id) / TRIAL).is_file():
            new.setdefault(trial.id, (trial, entry))
    with ThreadPoolExecutor(WRITERS) as pool:  # each waits for the disk, twice
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
    """Copy the validation annotations, so that the sweep can be scored again without the data."""
    val = data["val"]
    kept = work_dir / f"annotations-{val['annotations']}.json"
    if not kept.exists():
        work_dir.mkdir(parents=True, exist_ok=True)
        draft = kept.with_suffix(".draft")
        shutil.copyfile(val["file"], draft)
        draft.replace(kept)


def set_failed_aside(request: Request) -> int:
    """Let failed trials run again; their records are kept beside. Returns their number."""
    count = 0
    for trial in {trial.id: trial for trial in request.trials}.values():
        folder = trial_folder(request.work_dir, trial.id)
        record = read_record(folder)
        if record is not None and record.status == "failed":
            number = len(list(folder.glob("record-failed-*.json"))) + 1
            (folder / RECORD).rename(folder / f"record-failed-{number}.json")
            count += 1
    return count


def machine() -> str:
    """The machine for people: its GPUs, or its processor and cores; never its name."""
    gpus = visible_gpus()
    if gpus:
        return f"{len(gpus)} GPU(s)"
    model = "CPU"
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    return f"{model}, {cpu_cores()} cores"


def command_line() -> list[str]:
    """The command as a person would type it."""
    script = Path(sys.argv[0])
    with contextlib.suppress(ValueError):
        script = script.resolve().relative_to(Path.cwd())
    return ["python", os.fspath(script), *sys.argv[1:]]
