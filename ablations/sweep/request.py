"""A request: the trials of a grid in a work directory, which may hold some of them already."""

import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablations.store.files import read_json
from ablations.store.lease import LEASE
from ablations.store.manifest import (
    MANIFEST,
    TRIALS,
    DamagedManifestError,
    Entry,
    Manifest,
    read_manifest,
    trial_folder,
)
from ablations.store.record import TRIAL
from ablations.store.states import TrialState, trial_state
from ablations.sweep.errors import UsageError
from ablations.sweep.grid import Grid
from ablations.sweep.plan import Reduced, Trial, config_differences, with_seed
from ablations.sweep.reuse import Source

_OF_A_START = (
    *("annotations-", ".annotations.", LEASE, f".{LEASE}.", ".clock."),
    *(f"{Path(MANIFEST).stem}-damaged-", f".{MANIFEST}."),
)
WORTH_SHARING = 40_000  # images that all trials read; for fewer, sharing costs more than it saves


@dataclass(frozen=True)
class Request:
    """The command line, resolved."""

    grid: Grid
    config: str
    options: dict[str, Any]  # all that changes results: cfg_options, smoke, gpus_per_trial
    work_dir: Path
    trials: Sequence[Trial]
    sources: Sequence[Source] = ()  # sweeps to take trials over from
    decide: dict[str, Any] | None = None  # a sequential sweep's design, as the manifest keeps it

    def entries(self) -> list[Entry]:
        """The trials in the form of the manifest."""
        return [
            Entry(trial.id, trial.point.coordinates, trial.point.label, trial.seed)
            for trial in self.trials
        ]

    def states(self) -> list[TrialState]:
        """The states of the trials in the work directory."""
        return [trial_state(self.work_dir, entry) for entry in self.entries()]


def check_continues(request: Request) -> None:
    """Refuse to continue a sweep with other options than it was begun with.

    With a damaged manifest nothing is refused here; it is built again (``repair``).

    Raises:
        UsageError: the options, the config or the grid have changed; the message says how.
    """
    try:
        manifest = read_manifest(request.work_dir)
    except DamagedManifestError:
        return
    except ValueError as error:
        raise UsageError(str(error)) from error
    if manifest is None:
        if request.work_dir.is_dir() and any(map(_is_foreign, request.work_dir.iterdir())):
            raise UsageError(f"{request.work_dir} is not empty and holds no sweep")
        return
    old = {"grid": manifest.grid["name"], "config": manifest.config, **manifest.options}
    new = {"grid": request.grid.name, "config": request.config, **request.options}
    changed = config_differences(old, json.loads(json.dumps(new)))  # a manifest has no tuples
    changed += _changed_design(manifest.decide, request.decide)
    if not changed:
        changed = _changed_trials(request, manifest)
    if changed:
        raise UsageError(
            f"{request.work_dir} holds a sweep with other settings ({'; '.join(changed[:5])}); "
            "use another --work-dir, or the settings it began with"
        )


def _changed_design(old: dict[str, Any] | None, new: dict[str, Any] | None) -> list[str]:
    """Where a sequential sweep's design differs from the declared one, whose looks are binding."""
    if old is None or new is None:
        begun = ("without --decide", "with --decide")
        return [] if old == new else [f"it was begun {begun[old is not None]}"]
    bound = {"looks", "alpha"}
    asked = {name: value for name, value in new.items() if name not in bound}
    return config_differences({name: old.get(name) for name in asked}, asked, "decide")


def _is_foreign(path: Path) -> bool:
    """Whether a file is more than what a start leaves that was stopped before its manifest, or
    while it built a damaged one again."""
    rebuilt = path.name == TRIALS and any(path.parent.glob(f"{Path(MANIFEST).stem}-damaged-*"))
    return not rebuilt and not path.name.startswith(_OF_A_START)


def _changed_trials(request: Request, manifest: Manifest) -> list[str]:
    """Where the trials now planned differ from those of the manifest, for a point and any seed."""
    known: dict[str, dict[int, str]] = {}
    for entry in manifest.trials:
        known.setdefault(entry.label, {})[entry.seed] = entry.id
    checked = set()
    reduced: Reduced = {}
    for trial in request.trials:
        before = known.get(trial.point.label, {})
        if trial.seed not in before:  # a new seed of a point that others have trained
            if not before or trial.point.label in checked:
                continue
            trial = with_seed(trial, next(iter(before)), reduced)
        checked.add(trial.point.label)
        if before[trial.seed] != trial.id:
            stored = _identity(trial_folder(request.work_dir, before[trial.seed]))
            return config_differences(stored, trial.identity) or [trial.point.label]
    return []


def _identity(folder: Path) -> dict[str, Any]:
    """What the trial in a folder was planned with; empty where that cannot be read."""
    with contextlib.suppress(ValueError, AttributeError):
        return (read_json(folder / TRIAL) or {}).get("identity", {})
    return {}


def worth_sharing(request: Request, trials: int) -> bool:
    """Whether loading the training data once, before the trials are forked, saves time."""
    config = request.trials[0].config
    batch = config["train_dataloader"]["batch_size"]
    images = batch * config["train_cfg"].get("max_iters", 0)
    return images * trials > WORTH_SHARING
