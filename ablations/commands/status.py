"""Show the state of a sweep: every trial, its Slurm job, and the trials nobody will finish.

    python runners/status.py work_dirs/gamma_alpha
    python runners/status.py work_dirs/gamma_alpha 117f8aa0bc98 --log

Exit status: 0, or 1 if a trial is neither done nor queued nor running, 2 bad usage.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from ablations.commands.output import refuse, until_closed
from ablations.store.choosing import ONLY, chosen
from ablations.store.manifest import read_manifest
from ablations.store.record import LOG
from ablations.store.states import TrialState, sweep_states
from ablations.sweep.launchers.slurm.queue import (
    FOLDER,
    SlurmDownError,
    cancel,
    cancel_trials,
    jobs,
)
from ablations.sweep.overview import show


@until_closed
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(description="Show the state of a sweep.")
    parser.add_argument("work_dir", type=Path, metavar="WORK_DIR")
    parser.add_argument("trial", nargs="?", metavar="TRIAL", help="with --log: a trial's id")
    parser.add_argument("--log", action="store_true", help="print the trial's log")
    parser.add_argument("--cancel", action="store_true", help="cancel its Slurm jobs")
    parser.add_argument("--only", nargs="+", default=[], metavar="K=V", help=ONLY)
    args = parser.parse_args(arguments)
    if bool(args.trial) != args.log:
        parser.error("--log takes a trial's id, and an id takes --log: WORK_DIR TRIAL --log")
    if args.log and (args.cancel or args.only):
        parser.error("--log shows one trial: without --cancel and --only")
    try:
        if args.log:
            print(_log(args.work_dir, args.trial), end="")
            return 0
        if args.cancel:
            cancelled = _cancel(args.work_dir, args.only)
            print(f"cancelled: {', '.join(cancelled) or 'nothing was queued or running'}")
            return 0
        missing = show(args.work_dir, Console(highlight=False), args.only)
        _decided(args.work_dir)
        return 1 if missing else 0
    except BrokenPipeError:
        raise
    except (ValueError, OSError, SlurmDownError) as error:
        refuse(error)
        return 2


def _cancel(work_dir: Path, only: Sequence[str]) -> list[str]:
    """Cancel the sweep's jobs, or those of the chosen cells' trials; returns their ids."""
    if not only:
        return cancel(work_dir)
    trials = {state.entry.id for state in chosen(only, sweep_states(work_dir)[1])}
    return cancel_trials(work_dir, trials)


def _decided(work_dir: Path) -> None:
    """Print what is known of the cells of a sequential sweep, and what runs next and why."""
    manifest = read_manifest(work_dir)
    if manifest is None or manifest.decide is None:
        return  # without reading every trial again
    from ablations.commands import deciding  # it imports scipy

    found = deciding.decided(manifest, sweep_states(work_dir)[1])
    if found is not None:
        print(f"\n{deciding.known(found)}\n{deciding.why(found)}")


def _log(work_dir: Path, trial: str) -> str:
    """The log of a trial; of one that has none, what Slurm wrote for its task.

    Raises:
        ValueError: no trial, or more than one, has an id that begins so; or nothing was written.
    """
    _, states = sweep_states(work_dir)
    found = {state.entry.id: state for state in states if state.entry.id.startswith(trial)}
    if trial in found:
        found = {trial: found[trial]}
    if len(found) != 1:
        valid = ", ".join(dict.fromkeys(state.entry.id for state in states))
        which = "no trial's id begins" if not found else f"{len(found)} trials' ids begin"
        raise ValueError(f"{which} with {trial!r}; valid: {', '.join(found) or valid}")
    [state] = found.values()
    for path in (state.folder / LOG, *_slurm_logs(work_dir, state)):
        if path.is_file():
            return path.read_text(encoding="utf-8", errors="replace")
    raise ValueError(f"trial {state.entry.id} ({state.state}) has not written a log yet")


def _slurm_logs(work_dir: Path, state: TrialState) -> list[Path]:
    """What Slurm wrote for the last task of a trial."""
    try:
        job = jobs(work_dir).get(state.entry.id)
    except SlurmDownError:
        return []
    return sorted((work_dir / FOLDER).glob(f"{job.id}_*log.out")) if job else []
