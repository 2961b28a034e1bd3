"""Runs on the cluster's nodes: the processes of a trial, and the requeue after they have ended.

If the processes end with an error, the batch script calls ``after`` (``python -m`` this module). It
asks Slurm to requeue the task of a trial that was stopped (preempted, out of time) or that died,
and writes each requeue into the trial's ``status.json``. So a preempted trial resumes although no
command is running. The requeue is done by the batch script, not by the trial, because a trial that
is killed cannot ask for it. It is bounded, because a trial that dies at once would otherwise run
forever.
"""

import importlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from types import FrameType

import submitit

from ablations.machine import free_port
from ablations.store.files import read_json, write_json
from ablations.store.lease import TIME_TO_LIVE
from ablations.store.manifest import Entry, trial_folder
from ablations.store.states import sweep_states, trial_state
from ablations.store.status import read_status, update_status
from ablations.store.storage import NO_STORAGE
from ablations.sweep.launchers.launcher import MAX_ATTEMPTS, call_entry_point, record_death
from ablations.sweep.launchers.slurm.queue import (
    PATIENCE,
    SlurmDownError,
    answer,
    number_of,
    patiently,
    settle,
    wait_while_completing,
)
from ablations.sweep.launchers.slurm.settings import Settings

REFUSED, ELSEWHERE, STOPPED = 2, 75, 130
"""Exit statuses of a task: the plan is wrong, another process owns the trial, it was stopped."""

STOPS = (STOPPED, 128 + signal.SIGUSR2, 128 + signal.SIGTERM)
"""Exit statuses of a stopped task. With a signal's, it was stopped before Python could catch it."""


def run_task(entry_point: str, check: str, submission: str, trial: str) -> None:
    """Run one process of a trial, in a task of the array."""
    for number in (signal.SIGTERM, signal.SIGUSR2):
        signal.signal(number, _stop)
    folder = trial_folder(Path(submission).parents[1], trial)
    here = submitit.JobEnvironment()
    if here.num_tasks > 1:
        os.environ |= {
            "RANK": str(here.global_rank),
            "LOCAL_RANK": str(here.local_rank),
            "WORLD_SIZE": str(here.num_tasks),
            "MASTER_ADDR": here.hostnames[0],
        }
    try:
        if here.global_rank == 0:
            _wait_for_owner(folder)
        _check_plan(Path(submission), check, folder)
        call_entry_point(entry_point, str(folder))
    except KeyboardInterrupt as error:
        print(f"stopped by {error} before or after training", flush=True)
        sys.exit(STOPPED)


def _stop(number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt(signal.Signals(number).name)


def _wait_for_owner(folder: Path) -> None:
    """Wait while another process owns the trial.

    A requeued trial finds the lease of its own earlier attempt if that node went down. The lease
    expires within ``TIME_TO_LIVE``. If it is still renewed after that, its owner is alive and keeps
    the trial.
    """
    deadline = time.monotonic() + TIME_TO_LIVE + 15
    while trial_state(folder.parents[1], _entry(folder.name)).state == "running":
        if time.monotonic() > deadline:
            print("another process runs this trial", flush=True)
            sys.exit(ELSEWHERE)
        time.sleep(1)


def _check_file(submission: Path) -> Path:
    return submission.with_name(f"check-{number_of(submission)}.json")


def _check_plan(submission: Path, check: str, folder: Path) -> None:
    """Check the plan in the first task of a submission; the others read its result."""
    if not check:
        return
    path = _check_file(submission)
    errors = read_json(path)
    if errors is None:
        module, function = check.split(":")
        trials = read_json(submission)["trials"]
        folders = [trial_folder(folder.parents[1], trial) for trial in trials]
        errors = getattr(importlib.import_module(module), function)(folders)
        write_json(path, errors)
    if errors:
        update_status(
            folder, state="interrupted", reason=f"the plan is refused: {'; '.join(errors[:3])}"
        )
        print("\n".join(errors), flush=True)
        sys.exit(REFUSED)


def after(submission: Path, exit_code: int, seconds: int, offset: int = 0) -> int:
    """Write down how a trial's processes ended, and requeue the trial if it can continue.

    Args:
        submission: the file of the submission.
        exit_code: of srun, not 0.
        seconds: since the batch script began.
        offset: of the array's first trial in the submission, which may have several arrays.

    Returns:
        The exit status of the batch script, ``exit_code``.
    """
    value = read_json(submission)
    trial = value["trials"][offset + int(os.environ.get("SLURM_ARRAY_TASK_ID", 0))]
    work_dir = submission.parents[1]
    before = trial_state(work_dir, _entry(trial))
    over = exit_code in (ELSEWHERE, NO_STORAGE) or before.state not in ("pending", "interrupted")
    if over or read_json(_check_file(submission)):  # a refused plan stays refused
        return exit_code
    # A trial that saved its state and stopped has written so, whatever its other processes did.
    stopped = exit_code in STOPS or before.progress.get("state") == "interrupted"
    if stopped:
        reason = before.reason or "stopped before it began"
        limit = Settings(**value["settings"]).minutes
        if limit and seconds >= limit * 60 - value["settings"]["signal_seconds"] - 60:
            reason = f"its time limit of {limit:g} min was near"
    else:
        by_signal = exit_code - 128 in set(signal.Signals)
        died = 128 - exit_code if by_signal else exit_code
        reason = record_death(work_dir, _entry(trial), died).reason or ""
    most = value["settings"]["requeues"] if stopped else MAX_ATTEMPTS - 1
    _requeue(before.folder, reason, "stopped" if stopped else "died", most)
    return exit_code


def _requeue(folder: Path, reason: str, kind: str, most: int) -> None:
    """Requeue this task, unless it was requeued ``most`` times for this ``kind`` of end."""
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    job = f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}" if array else os.environ["SLURM_JOB_ID"]
    noted = read_status(folder).get("requeues", [])
    mine = [each for each in noted if (each["job"], each["kind"]) == (job, kind)]
    if len(mine) >= most:
        update_status(folder, state="interrupted", reason=f"{reason}; requeued {len(mine)} times")
        return
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    this = {"job": job, "kind": kind, "reason": reason, "at": now}
    update_status(
        folder, state="interrupted", reason=f"{reason}; requeued", requeues=[*noted, this]
    )
    try:
        patiently(lambda: answer("scontrol", "requeue", job), PATIENCE)
    except SlurmDownError as error:
        update_status(folder, state="interrupted", reason=f"{reason}; cannot be requeued: {error}")


def write_report(work_dir: str, command: Sequence[str], next_round: Sequence[str] = ()) -> None:
    """The last job of a submission: write why tasks ended, then run ``command``; or, if every
    planned trial is done, ``next_round``. (A trial that nobody will finish waits for a command of
    the user's, as ever: to submit it again and again would never end.)"""
    try:
        wait_while_completing(Path(work_dir))
        settle(Path(work_dir))
    except SlurmDownError as error:
        print(f"Slurm does not answer: {error}", flush=True)
    if next_round and all(state.record is not None for state in sweep_states(Path(work_dir))[1]):
        # A job's own variables are not for the jobs that it submits.
        job = ("SLURM_", "SUBMITIT_", "SBATCH_")
        kept = {k: v for k, v in os.environ.items() if not k.startswith(job) or k == "SLURM_CONF"}
        sys.exit(subprocess.run(next_round, env=kept, check=False).returncode)
    if command:
        subprocess.run(command, check=True)


def _entry(trial: str) -> Entry:
    return Entry(trial, {}, "", 0)


if __name__ == "__main__":
    if sys.argv[1] == "port":
        print(free_port())
    else:
        sys.exit(after(Path(sys.argv[2]), *map(int, sys.argv[3:])))
