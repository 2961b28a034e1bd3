"""The interface of the launchers.

A launcher runs ``entry_point`` (``"module:function"``, called with the trial's folder) once for
every trial, in separate processes, and returns when none of its trials is running. It judges a
trial by its files, never by an exit status alone. A trial that another command is running is waited
for. A trial that was killed is started again, ``MAX_ATTEMPTS`` times at most; one that hung at the
last has failed.
"""

import contextlib
import importlib
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ablations.store.files import read_json, sha256
from ablations.store.lease import Lease, LeaseHeldError
from ablations.store.manifest import Entry, trial_folder
from ablations.store.record import CONFIG, TRIAL, Record, planned, write_record
from ablations.store.states import TrialState, trial_state
from ablations.store.status import read_status, update_status

MAX_ATTEMPTS = 3
"""How often one command starts a trial that keeps dying; after that the next command may."""

HUNG = 124
"""Exit status of a trial that made no progress; it has written so."""

GAVE_REASON = ("interrupted", "hung")
"""What a trial's status says if the trial itself has written why it ended."""

Watch = Callable[[Sequence[TrialState]], None]
"""Called about once a second with the states of all trials."""


@dataclass(frozen=True)
class Launch:
    """Which trials to run, and how."""

    work_dir: Path
    entries: Sequence[Entry]  # the trials to run; each id once
    entry_point: str  # "module:function" that runs one trial
    gpus_per_trial: int = 1
    preload: Sequence[Sequence[str]] = ()  # ("module:function", argument, ...): calls to make once
    # on a machine before its trials are forked; a launcher that forks none leaves them out

    def states(self) -> list[TrialState]:
        """The states of these trials now."""
        return [trial_state(self.work_dir, entry) for entry in self.entries]


class Launcher(Protocol):
    """Runs trials somewhere."""

    trains_here: bool
    """Whether the trials run on this machine, which then needs torch and the data."""

    def hand_over(self, launch: Launch) -> str | None:
        """Hand the trials to a queue and return at once.

        Returns:
            What was queued, as text for the user; ``None`` if ``run`` must be called.

        Raises:
            UsageError: the queue refuses the request; nothing was queued.
        """

    def run(self, launch: Launch, watch: Watch) -> None:
        """Run the trials to their end.

        Raises:
            KeyboardInterrupt: the user stopped it; the trials have saved their state.
            UsageError: the request is refused; nothing was started.
        """


def call_entry_point(entry_point: str, folder: str) -> None:
    """Import ``module:function`` and call it with a trial's folder."""
    module, function = entry_point.split(":")
    getattr(importlib.import_module(module), function)(folder)


def record_death(work_dir: Path, entry: Entry, exit_code: int | None, why: str = "") -> TrialState:
    """The state of a trial whose process has ended. If the trial wrote no reason, write one.

    Exit status 130 means that the trial was stopped and has written its reason itself. ``why``
    explains a death that came from outside.
    """
    state = trial_state(work_dir, entry)
    if state.state not in ("pending", "interrupted") or exit_code == 130:
        return state
    reason = f"its process exited with status {exit_code}"
    if exit_code is not None and exit_code < 0:
        reason = f"killed by {_signal(-exit_code)}{f': {why}' if why else ''}"
    if state.progress.get("state") in GAVE_REASON:
        reason = state.progress.get("reason") or reason
    folder = trial_folder(work_dir, entry.id)
    attempts = read_status(folder).get("attempts", [])
    if attempts and attempts[-1].get("outcome") == "starting":  # it could not say how it ended
        attempts[-1] |= {"outcome": reason}
    update_status(folder, state="interrupted", reason=reason, attempts=attempts)
    return trial_state(work_dir, entry)


def record_failure(work_dir: Path, entry: Entry, reason: str) -> TrialState:
    """Write a record for a trial that cannot write one itself, and which is not to run again.

    Does nothing if it has a record by now, or its ``trial.json`` cannot be read.
    """
    folder = trial_folder(work_dir, entry.id)
    with contextlib.suppress(ValueError, TypeError, KeyError, LeaseHeldError, FileExistsError):
        trial = read_json(folder / TRIAL)
        attempts = read_status(folder).get("attempts", [])
        with Lease(folder):
            write_record(
                folder,
                Record(
                    **planned(trial),
                    status="failed",
                    reason=reason,
                    attempts=attempts,
                    timings={"wall_s": sum(each.get("seconds", 0.0) for each in attempts)},
                    files={name: sha256(folder / name) for name in (TRIAL, CONFIG)},
                ),
            )
    return trial_state(work_dir, entry)


def _signal(number: int) -> str:
    with contextlib.suppress(ValueError):
        return signal.Signals(number).name
    return f"signal {number}"  # a real-time signal has no name
