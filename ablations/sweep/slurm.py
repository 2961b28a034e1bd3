"""The Slurm launcher: a sweep as one job array, through submitit. Nothing else here knows Slurm.

A submission is one array with a task for each trial, and a small job that writes the report when
the array has ended. What was submitted is kept in ``WORK_DIR/slurm/submission-N.json``, beside
submitit's files and the jobs' output. A task runs the trial in its own process; when that has
ended badly, the batch script runs ``after`` on what it left: a trial that was stopped (preempted,
out of time) or that died goes back into the queue, a bounded number of times, and each time is
noted in the trial's ``status.json``.
"""

import importlib
import os
import shlex
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any, get_type_hints

import submitit
from submitit.core.utils import FailedJobError, FailedSubmissionError
from submitit.slurm.slurm import SlurmInfoWatcher

from ablations.sweep.errors import UsageError, one_of
from ablations.sweep.files import read_json, write_json
from ablations.sweep.launcher import MAX_ATTEMPTS, Job, Watch, call, note_death
from ablations.sweep.lease import TIME_TO_LIVE
from ablations.sweep.ledger import Entry, Standings, TrialState, trial_folder, trial_state
from ablations.sweep.local import free_port
from ablations.sweep.record import STATUS

FOLDER = "slurm"
POLL = 15.0  # seconds between questions to the controller while a sweep is followed

REFUSED, ELSEWHERE, STOPPED = 2, 75, 130
"""Exit statuses of a task: the plan is wrong, somebody else runs the trial, told to stop."""

STOPS = (STOPPED, 128 + signal.SIGUSR2, 128 + signal.SIGTERM)
"""A stopped task's statuses; those of signals from before Python could listen."""

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
class Settings:
    """How a sweep asks Slurm for its tasks; ``configs/slurm.toml`` explains every key."""

    partition: str = ""
    account: str = ""
    qos: str = ""
    constraint: str = ""
    time: str = ""
    mem: str = ""
    nodes: int = 1
    gpus_per_process: int = 1
    cpus_per_process: int = 1
    signal_seconds: int = 90
    requeues: int = 20
    setup: list[str] = field(default_factory=list)
    extra: list[str] = field(default_factory=list)
    report_partition: str = ""

    @property
    def minutes(self) -> float | None:
        """The time limit in minutes, or ``None`` for the partition's own."""
        return _minutes(self.time) if self.time else None


def load_settings(path: Path | None, options: Mapping[str, Any]) -> Settings:
    """The settings of a TOML file (none: the defaults), with ``options`` over them.

    Raises:
        UsageError: the file cannot be read, or keys or values are not valid; all are named.
    """
    values: dict[str, Any] = {}
    if path is not None:
        try:
            values = tomllib.loads(path.read_text())
        except FileNotFoundError:
            raise UsageError(f"{path} does not exist") from None
        except tomllib.TOMLDecodeError as error:
            raise UsageError(f"{path} is not TOML: {error}") from None
    values |= options
    kinds = get_type_hints(Settings)
    wrong = []
    for key, value in values.items():
        if key not in kinds:
            wrong.append(one_of("Slurm setting", key, kinds))
            continue
        if kinds[key] is str and isinstance(value, int):
            values[key] = value = str(value)
        if kinds[key] == list[str] and isinstance(value, str):
            values[key] = value = [value]
        kind: Any = list if kinds[key] == list[str] else kinds[key]
        if not isinstance(value, kind) or isinstance(value, bool):
            wrong.append(f"{key} is {value!r}; it must be {_KINDS[kind]}")
        elif kind is int and value < (0 if key in ("requeues", "gpus_per_process") else 1):
            wrong.append(f"{key} is {value}; it must be more")
    wrong += [
        f"extra has {line!r}; lines look like '--reservation=vision'"
        for line in values.get("extra", [])
        if not str(line).startswith("--")
    ]
    if not wrong:
        settings = Settings(**values)
        try:
            limit = settings.minutes
        except ValueError:
            wrong.append(f"time is {settings.time!r}; write minutes, H:MM:SS, D-H or D-HH:MM:SS")
        else:
            if limit is not None and limit * 60 <= settings.signal_seconds:
                wrong.append(
                    f"time is {settings.time!r}, within the signal_seconds of "
                    f"{settings.signal_seconds}: no trial would ever run"
                )
    if wrong:
        raise UsageError("; ".join(wrong))
    return settings


_KINDS = {str: "text", int: "a whole number", list: "a list of texts"}


def _minutes(text: str) -> float:
    """Slurm's time formats: M, M:S, H:M:S, D-H, D-H:M, D-H:M:S."""
    days, dash, rest = text.rpartition("-")
    parts = [int(part) for part in rest.split(":")]
    if len(parts) > 3:
        raise ValueError(text)
    if dash:
        hours, minutes, seconds = [*parts, 0, 0][:3]
    elif len(parts) == 3:
        hours, minutes, seconds = parts
    else:
        hours, (minutes, seconds) = 0, [*parts, 0][:2]
    return ((int(days) if dash else 0) * 24 + hours) * 60 + minutes + seconds / 60


@dataclass(frozen=True)
class Submission:
    """One job array: ``trials`` are in the order of its tasks."""

    path: Path
    job: str
    trials: list[str]
    report: str = ""
    settled: bool = False  # its jobs have ended and their reasons are noted

    def job_id(self, index: int) -> str:
        """Slurm's name for the task of a trial; submitit makes no array of a single one."""
        return f"{self.job}_{index}" if len(self.trials) > 1 else self.job


@dataclass(frozen=True)
class SlurmJob:
    """A trial's task as Slurm sees it: ``detail`` is the node, or why it waits."""

    id: str
    state: str
    detail: str = ""

    @property
    def live(self) -> bool:
        """Whether it waits or runs."""
        return self.state in _LIVE


def submissions(work_dir: Path) -> list[Submission]:
    """What was submitted for a sweep, oldest first."""
    paths = (work_dir / FOLDER).glob("submission-*.json")
    found = []
    for path in sorted(paths, key=lambda path: int(path.stem.rpartition("-")[2])):
        value = read_json(path)
        if value.get("job"):
            names = {"job", "trials", "report", "settled"}
            kept = {key: item for key, item in value.items() if key in names}
            found.append(Submission(path, **kept))
    return found


def jobs(work_dir: Path, only_open: bool = False) -> dict[str, SlurmJob]:
    """Slurm's view of the trials that were submitted, by trial id; the latest submission counts.

    Args:
        only_open: leave out submissions that have ended and were settled.

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


def _live(work_dir: Path) -> list[str]:
    """Ids of the trials whose tasks wait or run."""
    return [trial for trial, job in jobs(work_dir, only_open=True).items() if job.live]


def _is_listed(submission: Submission, queue: Mapping[str, SlurmJob]) -> bool:
    return all(submission.job_id(index) in queue for index in range(len(submission.trials)))


def _word(state: str) -> str:
    return state.split()[0] if state else "UNKNOWN"  # "CANCELLED by 1000"


def _queue() -> dict[str, SlurmJob]:
    """My jobs that the controller still knows, by id."""
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
    """Note Slurm's reason with every trial whose task was ended by Slurm.

    Raises:
        SlurmDownError: Slurm does not answer.
    """
    found = jobs(work_dir, only_open=True)
    for each in submissions(work_dir):
        mine = {trial: found[trial] for trial in each.trials if trial in found}
        if each.settled or any(job.live for job in mine.values()):
            continue
        for trial, job in mine.items():
            state = trial_state(work_dir, _entry(trial))
            if state.state in ("pending", "interrupted") and job.state in _ENDS:
                reason = f"{_ENDS[job.state]} (Slurm job {job.id})"
                _note(state.folder, state="interrupted", reason=reason)
        write_json(each.path, read_json(each.path) | {"settled": True})


def cancel(work_dir: Path) -> list[str]:
    """Cancel the sweep's jobs that wait or run; returns their ids. Trials keep their checkpoints.

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


@dataclass(frozen=True)
class SlurmLauncher:
    """Runs trials as tasks of a job array.

    Args:
        settings: how to ask for them.
        max_parallel: tasks of the sweep that may run at a time, so a submission waits for the
            arrays of earlier ones; ``None`` leaves it to Slurm.
        check: ``module:function`` that is called with the trials' folders on a compute node before
            any of them starts, and returns what is wrong with the plan, a line each.
        report: the command that the dependent job runs when the array has ended.
        poll: seconds between questions to Slurm.
    """

    settings: Settings = field(default_factory=Settings)
    max_parallel: int | None = None
    check: str = ""
    report: Sequence[str] = ()
    poll: float = POLL

    def run(self, job: Job, watch: Watch) -> None:
        """Submit the job's trials and follow them to their end; the trials outlive Ctrl-C.

        Raises:
            UsageError: Slurm refuses the request; nothing is queued.
        """
        left = list(job.entries)
        while left:
            this = replace(job, entries=left)
            submission = self.submit(this)
            queued = set(submission.trials if submission else ()) | set(_live(job.work_dir))
            self.follow(this, watch)
            # What somebody else was running has been waited for; it is ours if it was not finished.
            left = [s.entry for s in this.states() if s.record is None and s.entry.id not in queued]
        watch(job.states())

    def submit(self, job: Job) -> Submission | None:
        """Submit what is neither finished nor queued nor running; ``None`` if that is nothing.

        Raises:
            UsageError: Slurm refuses the request; the message is Slurm's, and nothing is queued.
        """
        try:
            _wait_while_completing(job.work_dir)
            settle(job.work_dir)
            queued = _live(job.work_dir)
        except SlurmDownError as error:
            raise UsageError(f"Slurm does not answer: {error}") from None
        todo = [
            state.entry.id
            for state in job.states()
            if state.record is None and state.state != "running" and state.entry.id not in queued
        ]
        if not todo:
            return None
        folder = (job.work_dir / FOLDER).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        number = 1 + max((_number(path) for path in folder.glob("submission-*.json")), default=0)
        path = folder / f"submission-{number}.json"
        array = self._array(job, path)
        earlier = [each.job for each in submissions(job.work_dir) if not each.settled]
        if self.max_parallel and earlier:  # the bound is the sweep's, Slurm's is an array's
            array.update_parameters(dependency=f"afterany:{':'.join(earlier)}")
        report = self._report_job(job)
        _check(array, tasks=len(todo))
        if self.report:
            _check(report)
        value: dict[str, Any] = {
            "trials": todo,
            "settings": asdict(self.settings),
            "max_parallel": self.max_parallel,
            "submitted": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        write_json(path, value)
        with _slurm_errors(), array.batch():
            tasks = [
                array.submit(run_task, job.entry_point, self.check, str(path), trial)
                for trial in todo
            ]
        value["job"] = tasks[0].job_id.partition("_")[0]
        write_json(path, value)
        if self.report:
            report.update_parameters(dependency=f"afterany:{value['job']}")
            with _slurm_errors():
                last = report.submit(conclude, str(job.work_dir.absolute()), list(self.report))
            value["report"] = last.job_id
            write_json(path, value)
        return Submission(path, value["job"], todo, value.get("report", ""))

    def follow(self, job: Job, watch: Watch) -> None:
        """Show the job's trials until none of them waits or runs any more."""
        asked = -self.poll
        standings = Standings(job.work_dir, job.entries)
        while True:
            states = standings.read()
            watch(states)
            if all(state.record is not None for state in states):
                break
            if time.monotonic() - asked >= self.poll:
                asked = time.monotonic()
                if not _going_on(job.work_dir, states):
                    break
            time.sleep(1)
        try:
            settle(job.work_dir)
        except SlurmDownError as error:
            print(f"Slurm does not answer: {error}", file=sys.stderr)
        watch(job.states())

    def _executor(self, job: Job, name: str, **parameters: Any) -> submitit.SlurmExecutor:
        asked = self.settings
        executor = submitit.SlurmExecutor(job.work_dir.absolute() / FOLDER)
        root = shlex.quote(str(Path(__file__).parents[2]))
        common = {
            "job_name": f"{job.work_dir.absolute().name}{name}",
            "account": asked.account or None,
            "qos": asked.qos or None,
            "wckey": None,
            "stderr_to_stdout": True,
            "setup": [f"export PYTHONPATH={root}${{PYTHONPATH:+:$PYTHONPATH}}", *asked.setup],
        }
        executor.update_parameters(**common | parameters)
        return executor

    def _array(self, job: Job, path: Path) -> submitit.SlurmExecutor:
        """The tasks: one process of a trial each, the whole trial in one task of the array.

        Raises:
            UsageError: the trial's processes cannot be spread evenly over the nodes.
        """
        asked, processes = self.settings, job.gpus_per_trial
        if processes % asked.nodes:
            raise UsageError(
                f"{processes} processes of a trial cannot be spread evenly over {asked.nodes} nodes"
            )
        on_node = processes // asked.nodes
        extra = dict(_option(line) for line in asked.extra)
        me = f"{shlex.quote(sys.executable)} -m ablations.sweep.slurm"
        executor = self._executor(
            job,
            "",
            partition=asked.partition or None,
            constraint=asked.constraint or None,
            time=_whole(asked.minutes),
            mem=asked.mem or None,
            nodes=asked.nodes,
            ntasks_per_node=on_node,
            cpus_per_task=asked.cpus_per_process,
            gpus_per_node=on_node * asked.gpus_per_process or None,
            signal_delay_s=asked.signal_seconds,
            array_parallelism=self.max_parallel or len(job.entries),
            srun_args=["--kill-on-bad-exit=1"],
            teardown=[
                "code=$?",
                f"[ $code = 0 ] || exec {me} after {shlex.quote(str(path))} $code $SECONDS",
            ],
            additional_parameters={"requeue": True} | extra,
        )
        if processes > 1:
            executor.parameters["setup"] += [f"export MASTER_PORT=$({me} port)"]
        return executor

    def _report_job(self, job: Job) -> submitit.SlurmExecutor:
        partition = self.settings.report_partition or self.settings.partition
        return self._executor(job, "-report", partition=partition or None, time=60, cpus_per_task=1)


def _whole(minutes: float | None) -> int | None:
    return None if minutes is None else max(1, -int(-minutes // 1))


def _number(path: Path) -> int:
    return int(path.stem.rpartition("-")[2])


def _option(line: str) -> tuple[str, Any]:
    key, equals, value = line.removeprefix("--").partition("=")
    return key, value if equals else True


def _check(executor: submitit.SlurmExecutor, tasks: int = 1) -> None:
    """Let Slurm judge the request without queueing it.

    Raises:
        UsageError: it refuses, in its words.
    """
    if tasks > 1:
        executor.parameters["map_count"] = tasks
    try:
        text = executor._make_submission_file_text("true", "check")
    finally:
        executor.parameters.pop("map_count", None)
    done = subprocess.run(
        ["sbatch", "--test-only"], input=text, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise UsageError(f"Slurm refuses the request: {' '.join(done.stderr.split())}")


class _slurm_errors:  # noqa: N801 - reads as a statement
    """Turns a refused submission into a ``UsageError`` with Slurm's words."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, FailedJobError | FailedSubmissionError):
            raise UsageError(f"Slurm refuses the request: {' '.join(str(error).split())}") from None


def _wait_while_completing(work_dir: Path, seconds: float = 60.0) -> None:
    """A job that ends and one that goes back into the queue look alike for some seconds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if all(job.state != "COMPLETING" for job in jobs(work_dir, only_open=True).values()):
            return
        time.sleep(1)


def _going_on(work_dir: Path, states: Sequence[TrialState]) -> bool:
    """Whether some unfinished trial waits or runs; a Slurm that does not answer is waited for."""
    try:
        queued = _live(work_dir)
    except SlurmDownError:
        return True
    return any(
        state.state == "running" or state.entry.id in queued
        for state in states
        if state.record is None
    )


# What runs on the cluster.


def run_task(entry_point: str, check: str, submission: str, trial: str) -> None:
    """One process of a trial, in a task of the array."""
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
        call(entry_point, str(folder))
    except KeyboardInterrupt as error:
        print(f"told to stop by {error} outside of training", flush=True)
        sys.exit(STOPPED)


def _stop(number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt(signal.Signals(number).name)


def _wait_for_owner(folder: Path) -> None:
    """Wait for the lease of a node that went down to run out; a living owner keeps the trial."""
    deadline = time.monotonic() + TIME_TO_LIVE + 15
    while trial_state(folder.parents[1], _entry(folder.name)).state == "running":
        if time.monotonic() > deadline:
            print("somebody else runs this trial", flush=True)
            sys.exit(ELSEWHERE)
        time.sleep(1)


def _check_file(submission: Path) -> Path:
    return submission.with_name(f"check-{_number(submission)}.json")


def _check_plan(submission: Path, check: str, folder: Path) -> None:
    """Whoever comes first checks the submission's plan; all tasks act on what was found."""
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
        _note(folder, state="interrupted", reason=f"the plan is refused: {'; '.join(errors[:3])}")
        print("\n".join(errors), flush=True)
        sys.exit(REFUSED)


def after(submission: Path, exit_code: int, seconds: int) -> int:
    """After a trial's processes have ended: note how, and requeue it if it can go on.

    Args:
        submission: the file of the submission.
        exit_code: srun's, not 0.
        seconds: since the batch script began.

    Returns:
        The exit status of the batch script, ``exit_code``.
    """
    value = read_json(submission)
    trial = value["trials"][int(os.environ.get("SLURM_ARRAY_TASK_ID", 0))]
    work_dir = submission.parents[1]
    before = trial_state(work_dir, _entry(trial))
    over = exit_code == ELSEWHERE or before.state not in ("pending", "interrupted")
    if over or read_json(_check_file(submission)):  # a refused plan stays refused
        return exit_code
    # A trial that was stopped in good order says so itself, whatever became of its other ranks.
    stopped = exit_code in STOPS or before.progress.get("state") == "interrupted"
    if stopped:
        reason = before.reason or "stopped before it began"
        limit = Settings(**value["settings"]).minutes
        if limit and seconds >= limit * 60 - value["settings"]["signal_seconds"] - 60:
            reason = f"its time limit of {limit:g} min was near"
    else:
        by_signal = exit_code - 128 in set(signal.Signals)
        died = 128 - exit_code if by_signal else exit_code
        reason = note_death(work_dir, _entry(trial), died).reason or ""
    most = value["settings"]["requeues"] if stopped else MAX_ATTEMPTS - 1
    _requeue(before.folder, reason, "stopped" if stopped else "died", most)
    return exit_code


def _requeue(folder: Path, reason: str, kind: str, most: int) -> None:
    """Put this task back into the queue, unless that was done ``most`` times for this ``kind``."""
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    job = f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}" if array else os.environ["SLURM_JOB_ID"]
    noted = (read_json(folder / STATUS) or {}).get("requeues", [])
    mine = [each for each in noted if (each["job"], each["kind"]) == (job, kind)]
    if len(mine) >= most:
        _note(folder, state="interrupted", reason=f"{reason}; requeued {len(mine)} times")
        return
    now = datetime.now(UTC).isoformat(timespec="seconds")
    this = {"job": job, "kind": kind, "reason": reason, "at": now}
    _note(folder, state="interrupted", reason=f"{reason}; requeued", requeues=[*noted, this])
    done = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True, check=False)
    if done.returncode:
        words = " ".join(done.stderr.split())
        _note(folder, state="interrupted", reason=f"{reason}; cannot be requeued: {words}")


def conclude(work_dir: str, command: Sequence[str]) -> None:
    """The last job of a submission: note how the tasks ended and run ``command``."""
    try:
        _wait_while_completing(Path(work_dir))
        settle(Path(work_dir))
    except SlurmDownError as error:
        print(f"Slurm does not answer: {error}", flush=True)
    subprocess.run(command, check=True)


def _entry(trial: str) -> Entry:
    return Entry(trial, {}, "", 0)


def _note(folder: Path, **values: Any) -> None:
    path = folder / STATUS
    write_json(path, (read_json(path) or {}) | values)


if __name__ == "__main__":
    if sys.argv[1] == "port":
        print(free_port())
    else:
        sys.exit(after(Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])))
