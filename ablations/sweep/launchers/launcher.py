"""The interface of the launchers.

A launcher runs ``entry_point`` (``"module:function"``, called with the trial's folder) once for
every trial, in separate processes, and returns when none of its trials is running. It judges a
trial by its files, never by an exit status alone. A trial that another command is running is waited
for. A trial that was killed is started again, ``MAX_ATTEMPTS`` times at most.
"""

import importlib
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ablations.store.manifest import Entry, trial_folder
from ablations.store.states import TrialState, trial_state
from ablations.store.status import update_status

MAX_ATTEMPTS = 3
"""How often one command starts a trial that keeps dying; after that the next command may."""

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


def record_death(work_dir: Path, entry: Entry, exit_code: int | None) -> TrialState:
    """The state of a trial whose process has ended. If the trial wrote no reason, write one.

    Exit status 130 means that the trial was stopped and has written its reason itself.
    """
    state = trial_state(work_dir, entry)
    if state.state in ("pending", "interrupted") and exit_code != 130:
        reason = f"its process exited with status {exit_code}"
        if exit_code is not None and exit_code < 0:
            reason = f"killed by {signal.Signals(-exit_code).name}"
        folder = trial_folder(work_dir, entry.id)
        update_status(folder, state="interrupted", reason=reason)
        state = trial_state(work_dir, entry)
    return state
