"""The ``status`` command: every trial's state on disk, beside its Slurm job."""

import contextlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from ablations.store.choosing import chosen
from ablations.store.states import TrialState, sweep_states
from ablations.sweep.display import describe, in_columns
from ablations.sweep.launchers.slurm.queue import (
    SlurmDownError,
    SlurmJob,
    jobs,
    settle,
    submissions,
)

MOST_NAMES = 20  # of missing trials in one line


def show(work_dir: Path, console: Console, only: Sequence[str] = ()) -> int:
    """Print the trials, their counts, and those that nobody will finish. Works without Slurm too.

    Args:
        work_dir: of the sweep.
        console: where.
        only: terms that choose cells (``store.choosing``).

    Returns:
        The number of trials that are neither done nor queued nor running.

    Raises:
        FileNotFoundError: there is no sweep in ``work_dir``.
        ValueError: ``only`` is not valid.
    """
    found, down = _ask_slurm(work_dir)
    manifest, states = sweep_states(work_dir)
    states = list({state.entry.id: state for state in chosen(only, states)}.values())
    console.out(_table(states, found, slurm=bool(submissions(work_dir))), highlight=False)
    counts = Counter(state.state for state in states)
    console.print(", ".join(f"{count} {state}" for state, count in sorted(counts.items())))
    if down:
        console.print(f"Slurm does not answer: {down}", markup=False, soft_wrap=True)
        return 0
    missing = [state for state in states if is_missing(state, found)]
    if missing:
        names = [f"{state.entry.label} seed {state.entry.seed}" for state in missing[:MOST_NAMES]]
        more = f" and {len(missing) - MOST_NAMES} more" if len(missing) > MOST_NAMES else ""
        commands = list(dict.fromkeys(entry["command"] for entry in manifest.commands))
        same = "the same command continues" if len(commands) == 1 else "the same commands continue"
        console.print(
            f"missing, neither done nor queued: {', '.join(names)}{more}; {same}: "
            f"{'; '.join(commands)}",
            markup=False,
            soft_wrap=True,
        )
    return len(missing)


def is_missing(state: TrialState, found: Mapping[str, SlurmJob]) -> bool:
    """Whether the trial is unfinished and neither runs nor is queued."""
    job = found.get(state.entry.id)
    return state.record is None and state.state != "running" and not (job and job.live)


def _ask_slurm(work_dir: Path) -> tuple[dict[str, SlurmJob], str]:
    try:
        with contextlib.suppress(OSError):  # a folder that may only be read
            settle(work_dir)
        return jobs(work_dir), ""
    except SlurmDownError as error:
        return {}, str(error)


def _table(states: Sequence[TrialState], found: Mapping[str, SlurmJob], slurm: bool) -> str:
    header = ["trial", "point", "seed", "state", "iteration", "loss", "left"]
    rows = []
    for state in states:
        row = [state.entry.id, state.entry.label, str(state.entry.seed), *describe(state)]
        if slurm:
            job = found.get(state.entry.id)
            row.append(f"{job.id} {job.state} {job.detail}".strip() if job else "?")
        rows.append([*row, state.reason or ""])
    return in_columns([*header, *(["Slurm", "reason"] if slurm else ["reason"])], rows)
