"""The jobs of a sweep: which wait or run, and how the others ended."""

import subprocess
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from submitit.slurm.slurm import SlurmInfoWatcher

from ablations.store.files import read_json, write_json
from ablations.store.manifest import Entry
from ablations.store.states import TrialState, trial_state
from ablations.store.status import update_status

FOLDER = "slurm"

_LIVE = {
    *("PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "CONFIGURING"),
    *("RUNNING", "SUSPENDED", "STOPPED", "RESIZING", "SIGNALING", "STAGE_OUT", "COMPLETING"),
}
_ENDS = {
    "CANCELLED": "cancelled",
    "TIMEOUT": "ran out of time",
    "DEADLINE": "missed its deadline",
    "NODE_FAIL": "its node went down",
    "BOOT_FAIL": "its node did not start",
    "OUT_OF_MEMORY": "ran out of memory",
    "PREEMPTED": "preempted",
}


class SlurmDownError(RuntimeError):
    """Slurm does not answer; the message is its own."""


@dataclass(frozen=True)
class Submission:
    """One job array: ``trials`` are in the order of its tasks."""

    path: Path
    job: str
    trials: list[str]
    report: str = ""
    settled: bool = False  # its jobs have ended, and their reasons are in the trials' status

    def job_id(self, index: int) -> str:
        """Slurm's name for the task of a trial; submitit makes no array of a single one."""
        return f"{self.job}_{index}" if len(self.trials) > 1 else self.job


@dataclass(frozen=True)
class SlurmJob:
    """The task of a trial in Slurm's words; ``detail`` is its node, or why it waits."""

    id: str
    state: str
    detail: str = ""

    @property
    def live(self) -> bool:
        """Whether it waits or runs."""
        return self.state in _LIVE


def number_of(submission: Path) -> int:
    """The N of ``submission-N.json``."""
    return int(submission.stem.rpartition("-")[2])


def submissions(work_dir: Path) -> list[Submission]:
    """The submissions of a sweep, oldest first."""
    paths = (work_dir / FOLDER).glob("submission-*.json")
    found = []
    for path in sorted(paths, key=number_of):
        value = read_json(path)
        if value.get("job"):
            names = {"job", "trials", "report", "settled"}
            kept = {key: item for key, item in value.items() if key in names}
            found.append(Submission(path, **kept))
    return found


def jobs(work_dir: Path, only_open: bool = False) -> dict[str, SlurmJob]:
    """The Slurm jobs of the trials that were submitted, by trial id.

    For a trial that was submitted several times it is the latest job.

    Args:
        only_open: leave out submissions that are settled.

    Raises:
        SlurmDownError: Slurm does not answer, or is not installed here.
    """
    known = [each for each in submissions(work_dir) if not (only_open and each.settled)]
    if not known:
        return {}
    queue = _queue()
    forgotten = [each for each in known if not _is_listed(each, queue)]
    watcher = SlurmInfoWatcher()
    for each in forgotten:
        watcher.register_job(each.job)
    if forgotten:
        watcher.update()
    found = {}
    for each in known:
        for index, trial in enumerate(each.trials):
            id = each.job_id(index)
            found[trial] = queue.get(id) or SlurmJob(id, _word(watcher.get_state(id, "cache")))
    return found


def live_trials(work_dir: Path) -> list[str]:
    """Ids of the trials whose tasks wait or run."""
    return [trial for trial, job in jobs(work_dir, only_open=True).items() if job.live]


def _is_listed(submission: Submission, queue: Mapping[str, SlurmJob]) -> bool:
    return all(submission.job_id(index) in queue for index in range(len(submission.trials)))


def _word(state: str) -> str:
    return state.split()[0] if state else "UNKNOWN"  # "CANCELLED by 1000"


def _queue() -> dict[str, SlurmJob]:
    """The user's jobs that the controller still lists, by id."""
    listed = _slurm("squeue", "--me", "-h", "-r", "-t", "all", "-o", "%i|%T|%R")
    rows = [line.split("|", 2) for line in listed.splitlines()]
    return {id: SlurmJob(id, _word(state), detail.strip("()")) for id, state, detail in rows}


def _slurm(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    except FileNotFoundError:
        raise SlurmDownError(f"{command[0]} is not installed here") from None
    except subprocess.TimeoutExpired:
        raise SlurmDownError(f"{command[0]} did not answer within a minute") from None
    if done.returncode:
        raise SlurmDownError(" ".join(done.stderr.split()) or f"{command[0]} failed")
    return done.stdout


def settle(work_dir: Path) -> None:
    """Write why a task ended into its trial's status, for all tasks that Slurm ended.

    Raises:
        SlurmDownError: Slurm does not answer.
    """
    found = jobs(work_dir, only_open=True)
    for each in submissions(work_dir):
        mine = {trial: found[trial] for trial in each.trials if trial in found}
        if each.settled or any(job.live for job in mine.values()):
            continue
        for trial, job in mine.items():
            state = trial_state(work_dir, Entry(trial, {}, "", 0))
            if state.state in ("pending", "interrupted") and job.state in _ENDS:
                reason = f"{_ENDS[job.state]} (Slurm job {job.id})"
                update_status(state.folder, state="interrupted", reason=reason)
        write_json(each.path, read_json(each.path) | {"settled": True})


def cancel_trials(work_dir: Path, trials: Collection[str]) -> list[str]:
    """Cancel the tasks of these trials that wait or run, and return their ids; the others, and the
    job that follows them, stay. Checkpoints are kept.

    Raises:
        SlurmDownError: Slurm does not answer.
    """
    live = jobs(work_dir, only_open=True)
    found = [job.id for trial, job in live.items() if trial in trials and job.live]
    if found:
        _slurm("scancel", *found)
    return found


def cancel(work_dir: Path) -> list[str]:
    """Cancel the sweep's jobs that wait or run, and return their ids. Checkpoints are kept.

    Raises:
        SlurmDownError: Slurm does not answer.
    """
    known = submissions(work_dir)
    queue = _queue() if known else {}
    names = [name for each in known for name in (each.job, each.report) if name]
    live = {id.partition("_")[0] for id, job in queue.items() if job.live}
    found = [name for name in names if name in live]
    if found:
        _slurm("scancel", *found)
    return found


def wait_while_completing(work_dir: Path, seconds: float = 60.0) -> None:
    """Wait until no job is completing.

    A job that ends and a job that is requeued both show as COMPLETING for some seconds.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if all(job.state != "COMPLETING" for job in jobs(work_dir, only_open=True).values()):
            return
        time.sleep(1)


def goes_on(work_dir: Path, states: Sequence[TrialState]) -> bool:
    """Whether some unfinished trial waits or runs; also True if Slurm does not answer."""
    try:
        queued = live_trials(work_dir)
    except SlurmDownError:
        return True
    return any(
        state.state == "running" or state.entry.id in queued
        for state in states
        if state.record is None
    )
