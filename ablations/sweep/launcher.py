"""What every launcher is given, and what it promises.

A launcher runs ``entry`` (``"module:function"``, called with the trial's folder) once for every
trial, in processes of their own, and returns when none of its trials runs any more. It judges a
trial by what it left on disk, never by an exit status alone. A trial that somebody else is running
is waited for, one that was killed is continued a bounded number of times.
"""

import importlib
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ablations.sweep.files import read_json, write_json
from ablations.sweep.ledger import Entry, TrialState, trial_folder, trial_state
from ablations.sweep.record import STATUS

MAX_ATTEMPTS = 3
"""Times a trial is started in one sweep command before it is left to the next one."""

Watch = Callable[[Sequence[TrialState]], None]
"""Called with the state of all trials whenever a second has passed."""


@dataclass(frozen=True)
class Job:
    """What to run, and where."""

    work_dir: Path
    entries: Sequence[Entry]  # the trials to run; each id once
    entry_point: str = "ablations.training.trial:main"
    gpus_per_trial: int = 1
    share_data: bool = False  # load the training data once for all, where trials share a machine

    def states(self) -> list[TrialState]:
        """How the job's trials stand now."""
        return [trial_state(self.work_dir, entry) for entry in self.entries]


def call(entry_point: str, folder: str) -> None:
    """Import ``module:function`` and call it with a trial's folder."""
    module, function = entry_point.split(":")
    getattr(importlib.import_module(module), function)(folder)


def note_death(work_dir: Path, entry: Entry, exit_code: int | None) -> TrialState:
    """After a trial's process ended: its state, with the reason noted if it left none."""
    state = trial_state(work_dir, entry)
    if state.state in ("pending", "interrupted") and exit_code != 130:
        reason = f"its process exited with status {exit_code}"
        if exit_code is not None and exit_code < 0:
            reason = f"killed by {signal.Signals(-exit_code).name}"
        path = trial_folder(work_dir, entry.id) / STATUS
        write_json(path, (read_json(path) or {}) | {"state": "interrupted", "reason": reason})
        state = trial_state(work_dir, entry)
    return state
