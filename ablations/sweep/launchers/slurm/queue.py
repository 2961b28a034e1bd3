"""The jobs of a sweep: which wait or run, and how the others ended."""

import re
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from submitit.slurm.slurm import SlurmInfoWatcher

from ablations.store.files import read_json, write_json
from ablations.store.manifest import Entry
from ablations.store.states import TrialState, trial_state
from ablations.store.status import update_status

FOLDER = "slurm"
PATIENCE = 600.0  # seconds of silence after which a command no longer waits for Slurm
ANSWER = 60.0  # seconds that one of Slurm's commands may take

T = TypeVar("T")

# What Slurm's commands say when the controller is down, starting or too busy.
_SILENT = re.compile(
    "unable to contact|timed out|connect(ion)? fail|connection refused|zero bytes were transmitted|"
    "temporarily un|standby mode",
    re.IGNORECASE,
)

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


class NoSlurmError(SlurmDownError):
    """Slurm is not installed here: no use in asking again."""


@dataclass(frozen=True)
class Submission:
    """What one command has submitted: ``trials`` are in the order of their tasks.

    It is one job array, or several where Slurm takes none of that size. Then each has ``size``
    tasks, and the last what is left.
    """

    path: Path
    jobs: list[str]
    trials: list[str]
    size: int
    report: str = ""
    settled: bool = False  # its jobs have ended, and their reasons are in the trials' status

    @property
    def job(self) -> str:
        """The jobs as text."""
        return ", ".join(self.jobs)

    def job_id(self, index: int) -> str:
        """Slurm's name for the task of a trial; submitit makes no array of a single one."""
        number, task = divmod(index, self.size)
        alone = len(self.trials[number * self.size : (number + 1) * self.size]) == 1
        return self.jobs[number] if alone else f"{self.jobs[number]}_{task}"


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
        try:
            jobs = value.get("jobs") or ([value["job"]] if value.get("job") else [])
            size = value.get("size") or len(value["trials"])
            trials = value["trials"][: size * len(jobs)]  # the command may have been killed
            more = str(value.get("report", "")), value.get("settled", False) is True
            if not all(isinstance(name, str) for name in [*jobs, *trials]):
                raise TypeError("a job or a trial is no text")
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is no submission: {error!r}") from error
        if jobs:
            found.append(Submission(path, jobs, trials, size, *more))
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
    for job in (job for each in forgotten for job in each.jobs):
        watcher.register_job(job)
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
    listed = answer("squeue", "--me", "-h", "-r", "-t", "all", "-o", "%i|%T|%R")
    rows = [line.split("|", 2) for line in listed.splitlines()]
    return {id: SlurmJob(id, _word(state), detail.strip("()")) for id, state, detail in rows}


def answer(*command: str) -> str:
    """What one of Slurm's commands prints.

    Raises:
        SlurmDownError: it fails.
    """
    done = ask(*command)
    if done.returncode:
        raise SlurmDownError(" ".join(done.stderr.split()) or f"{command[0]} failed")
    return done.stdout


def ask(*command: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run one of Slurm's commands, with ``text`` as its input; it may have refused.

    Raises:
        SlurmDownError: the controller does not answer, or the command is not installed.
    """
    try:
        done = subprocess.run(
            command, input=text, capture_output=True, text=True, check=False, timeout=ANSWER
        )
    except FileNotFoundError:
        raise NoSlurmError(f"{command[0]} is not installed here") from None
    except subprocess.TimeoutExpired:
        raise SlurmDownError(f"{command[0]} did not answer within {ANSWER:g} s") from None
    if done.returncode and is_silence(done.stderr):
        raise SlurmDownError(" ".join(done.stderr.split()))
    return done


def is_silence(message: str) -> bool:
    """Whether Slurm's error message says that nobody answered, and not that it refuses."""
    return _SILENT.search(message) is not None


def patiently(
    question: Callable[[], T], seconds: float, said: str = "asking again", pause: float = 5.0
) -> T:
    """``question()``, asked again for some ``seconds`` while Slurm does not answer.

    Raises:
        SlurmDownError: it has not answered.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            return question()
        except NoSlurmError:
            raise
        except SlurmDownError as error:
            left = deadline - time.monotonic()
            if left <= 0:
                raise
            if said:
                print(f"Slurm does not answer ({error}); {said}", file=sys.stderr, flush=True)
        said = ""
        time.sleep(min(pause, left))


def largest_array() -> int | None:
    """How many tasks a job array may have; ``None`` if Slurm does not say.

    Raises:
        SlurmDownError: Slurm does not answer.
    """
    text = ask("scontrol", "show", "config").stdout
    found = re.findall(r"^MaxArraySize\s*=\s*(\d+)|max_array_tasks=(\d+)", text, re.MULTILINE)
    return min((max(1, int(size or tasks)) for size, tasks in found), default=None)


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
        answer("scancel", *found)
    return found


def cancel(work_dir: Path) -> list[str]:
    """Cancel the sweep's jobs that wait or run, and return their ids. Checkpoints are kept.

    Raises:
        SlurmDownError: Slurm does not answer.
    """
    known = submissions(work_dir)
    queue = _queue() if known else {}
    names = [name for each in known for name in (*each.jobs, each.report) if name]
    live = {id.partition("_")[0] for id, job in queue.items() if job.live}
    found = [name for name in names if name in live]
    if found:
        answer("scancel", *found)
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
    """Whether some unfinished trial waits or runs.

    Raises:
        SlurmDownError: Slurm does not answer.
    """
    queued = live_trials(work_dir)
    return any(
        state.state == "running" or state.entry.id in queued
        for state in states
        if state.record is None
    )
