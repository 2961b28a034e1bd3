"""The Slurm launcher: submits a sweep as a job array, and a small job for its report."""

import contextlib
import io
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TypeVar

import submitit
from submitit.core.utils import FailedJobError, FailedSubmissionError

from ablations.shipped import command
from ablations.store.files import write_json
from ablations.store.states import StateReader
from ablations.sweep.errors import UsageError
from ablations.sweep.launchers.launcher import Launch, Watch
from ablations.sweep.launchers.slurm.queue import (
    FOLDER,
    PATIENCE,
    NoSlurmError,
    SlurmDownError,
    Submission,
    ask,
    goes_on,
    is_silence,
    largest_array,
    live_trials,
    number_of,
    patiently,
    settle,
    submissions,
    wait_while_completing,
)
from ablations.sweep.launchers.slurm.settings import Settings
from ablations.sweep.launchers.slurm.task import run_task, write_report

T = TypeVar("T")

POLL = 15.0  # seconds between questions to the controller while a sweep is followed


@dataclass(frozen=True)
class SlurmLauncher:
    """Runs trials as tasks of a job array, or of several if there are too many for one.

    Args:
        settings: of the request.
        max_parallel: tasks of the sweep that may run at a time; ``None`` leaves it to Slurm. With
            a limit, an array waits for the end of those that were submitted before it.
        check: ``module:function`` that checks the plan: it is called on a compute node, before any
            trial starts, with the trials' folders, and returns one line for each mistake.
        report: the command that the dependent job runs when the array has ended.
        wait: follow the trials to their end instead of returning when they are queued.
        poll: seconds between questions to Slurm.
        patience: seconds that Slurm may be silent once trials are queued.
        next_round: the command that the dependent job runs instead if every planned trial is
            done then: it submits the next round of a sequential sweep, or writes the report.
    """

    trains_here = False

    settings: Settings = field(default_factory=Settings)
    max_parallel: int | None = None
    check: str = ""
    report: Sequence[str] = ()
    wait: bool = False
    poll: float = POLL
    patience: float = PATIENCE
    next_round: Sequence[str] = ()

    def hand_over(self, launch: Launch) -> str | None:
        """Submit the trials and return, unless ``wait`` is set; see ``Launcher``."""
        if self.wait:
            return None
        submission = self.submit(launch)
        lines = ["every unfinished trial is queued or running already"]
        if submission is not None:
            jobs = "job" if len(submission.jobs) == 1 else "jobs"
            lines = [f"submitted {len(submission.trials)} trials as Slurm {jobs} {submission.job}"]
            if submission.report:
                then = "goes on with the next round" if self.next_round else "writes the report"
                lines.append(f"job {submission.report} {then} when they have ended")
        status = f"{command('status')} {launch.work_dir}"
        return "\n".join([*lines, f"follow: {status}", f"cancel: {status} --cancel"])

    def run(self, launch: Launch, watch: Watch) -> None:
        """Submit the trials and follow them to their end. They keep running after Ctrl-C.

        If Slurm falls silent, this waits for ``patience`` seconds and goes on to follow the trials
        that can be seen to run; then it says so and returns.

        Raises:
            UsageError: Slurm refuses the request, or does not answer; nothing is queued.
        """
        left = list(launch.entries)
        queued = set(submission.trials if (submission := self.submit(launch)) else ())
        try:
            while True:
                queued |= set(self._patiently(lambda: live_trials(launch.work_dir)))
                this = replace(launch, entries=left)
                self.follow(this, watch)
                # A trial that another command was running is submitted now, if it is not done.
                done = {s.entry.id for s in this.states() if s.record is not None}
                left = [entry for entry in left if entry.id not in done | queued]
                if not left:
                    break
                again = replace(launch, entries=left)
                submission = self._patiently(lambda again=again: self._submit(again))  # type: ignore[misc]
                queued = set(submission.trials if submission else ())
        except (SlurmDownError, UsageError) as error:
            why = f"Slurm does not answer: {error}" if isinstance(error, SlurmDownError) else error
            print(f"{why}; what is queued goes on, the same command follows it", file=sys.stderr)
        watch(launch.states())

    def _patiently(self, question: Callable[[], T]) -> T:
        said = f"waiting up to {self.patience / 60:g} min"
        return patiently(question, self.patience, said, min(self.poll, 5.0))

    def submit(self, launch: Launch) -> Submission | None:
        """Submit the trials that are neither finished nor queued nor running.

        Returns:
            The submission; ``None`` if there was nothing to submit.

        Raises:
            UsageError: Slurm refuses the request or does not answer; the message is Slurm's, and
                nothing is queued.
        """
        missing = [name for name in ("sbatch", "srun", "squeue") if shutil.which(name) is None]
        if missing:
            raise UsageError(f"Slurm is not installed here: there is no {', '.join(missing)}")
        try:
            return self._submit(launch)
        except SlurmDownError as error:
            raise UsageError(f"Slurm does not answer: {error}") from None

    def _submit(self, launch: Launch) -> Submission | None:
        wait_while_completing(launch.work_dir)
        settle(launch.work_dir)
        queued = live_trials(launch.work_dir)
        todo = [
            state.entry.id
            for state in launch.states()
            if state.record is None and state.state != "running" and state.entry.id not in queued
        ]
        if not todo:
            return None
        folder = (launch.work_dir / FOLDER).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        number = 1 + max((number_of(path) for path in folder.glob("submission-*.json")), default=0)
        path = folder / f"submission-{number}.json"
        size = min(len(todo), largest_array() or len(todo))
        report = self._report_job(launch)
        _check(self._array(launch, path), tasks=size)
        if self.report or self.next_round:
            _check(report)
        value: dict[str, Any] = {
            "trials": todo,
            "size": size,
            "jobs": [],
            "settings": asdict(self.settings),
            "max_parallel": self.max_parallel,
            "submitted": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        }
        jobs: list[str] = value["jobs"]
        earlier = [job for each in submissions(launch.work_dir) for job in _open_jobs(each)]
        write_json(path, value)
        try:
            for first in range(0, len(todo), size):
                array = self._array(launch, path, first)
                if self.max_parallel and (before := earlier + jobs):
                    # Slurm limits an array, max_parallel the whole sweep.
                    array.update_parameters(dependency=f"afterany:{':'.join(before)}")
                with _slurm_errors(), array.batch():
                    tasks = [
                        array.submit(run_task, launch.entry_point, self.check, str(path), trial)
                        for trial in todo[first : first + size]
                    ]
                jobs.append(tasks[0].job_id.partition("_")[0])
                write_json(path, value)
        except (UsageError, SlurmDownError) as error:
            if not jobs:
                path.unlink()
                raise
            left = len(todo) - size * len(jobs)
            print(f"{left} trials are not submitted yet: {error}", file=sys.stderr, flush=True)
        if self.report or self.next_round:
            value["report"] = self._submit_report(launch, report, jobs)
            write_json(path, value)
        return Submission(path, jobs, todo[: size * len(jobs)], size, value.get("report", ""))

    def _submit_report(
        self, launch: Launch, report: submitit.SlurmExecutor, jobs: Sequence[str]
    ) -> str:
        """Submit the job that writes the report after ``jobs``; ``""`` if that fails."""
        report.update_parameters(dependency=f"afterany:{':'.join(jobs)}")

        def send() -> str:
            with _slurm_errors():
                folder = str(launch.work_dir.absolute())
                then = list(self.report), list(self.next_round)
                return str(report.submit(write_report, folder, *then).job_id)

        try:
            return self._patiently(send)
        except (UsageError, SlurmDownError) as error:
            line = f"the trials are queued, but not the job for their report: {error}"
            print(line, file=sys.stderr, flush=True)
            return ""

    def follow(self, launch: Launch, watch: Watch) -> None:
        """Show the trials until none of them waits or runs.

        Raises:
            SlurmDownError: Slurm has been silent for ``patience`` seconds, and no trial is running.
        """
        asked = -self.poll
        heard = time.monotonic()  # from Slurm, or from a trial
        silent = False
        reader = StateReader(launch.work_dir, launch.entries)
        while True:
            states = reader.read()
            watch(states)
            if all(state.record is not None for state in states):
                break
            now = time.monotonic()
            if now - asked >= self.poll:
                asked = now
                try:
                    if not goes_on(launch.work_dir, states):
                        break
                    heard, silent = now, False
                except SlurmDownError as error:
                    if any(state.state == "running" for state in states):
                        heard = now
                    if isinstance(error, NoSlurmError) or now - heard > self.patience:
                        raise
                    if not silent:
                        print(f"Slurm does not answer ({error}); waiting", file=sys.stderr)
                    silent = True
            time.sleep(1)
        with contextlib.suppress(SlurmDownError):  # else the next command does it
            settle(launch.work_dir)
        watch(launch.states())

    def _executor(self, launch: Launch, name: str, **parameters: Any) -> submitit.SlurmExecutor:
        asked = self.settings
        executor = submitit.SlurmExecutor(launch.work_dir.absolute() / FOLDER)
        root = shlex.quote(str(Path(__file__).parents[4]))
        common = {
            "job_name": f"{launch.work_dir.absolute().name}{name}",
            "account": asked.account or None,
            "qos": asked.qos or None,
            "wckey": None,
            "stderr_to_stdout": True,
            "setup": [f"export PYTHONPATH={root}${{PYTHONPATH:+:$PYTHONPATH}}", *asked.setup],
        }
        executor.update_parameters(**common | parameters)
        return executor

    def _array(self, launch: Launch, path: Path, first: int = 0) -> submitit.SlurmExecutor:
        """The request for a job array: one task for each trial, with all its processes.

        Args:
            launch: of the trials.
            path: the submission's file.
            first: place of the array's first trial in the submission.

        Raises:
            UsageError: the trial's processes cannot be spread evenly over the nodes.
        """
        asked, processes = self.settings, launch.gpus_per_trial
        if processes % asked.nodes:
            raise UsageError(
                f"{processes} processes of a trial cannot be spread evenly over {asked.nodes} nodes"
            )
        on_node = processes // asked.nodes
        extra = dict(_option(line) for line in asked.extra)
        me = f"{shlex.quote(sys.executable)} -m ablations.sweep.launchers.slurm.task"
        executor = self._executor(
            launch,
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
            array_parallelism=self.max_parallel or len(launch.entries),
            srun_args=["--kill-on-bad-exit=1"],
            teardown=[
                "code=$?",
                f"[ $code = 0 ] || exec {me} after {shlex.quote(str(path))} $code $SECONDS {first}",
            ],
            additional_parameters={"requeue": True} | extra,
        )
        if processes > 1:
            executor.parameters["setup"] += [f"export MASTER_PORT=$({me} port)"]
        return executor

    def _report_job(self, launch: Launch) -> submitit.SlurmExecutor:
        partition = self.settings.report_partition or self.settings.partition
        return self._executor(
            launch, "-report", partition=partition or None, time=60, cpus_per_task=1
        )


def _whole(minutes: float | None) -> int | None:
    return None if minutes is None else max(1, -int(-minutes // 1))


def _option(line: str) -> tuple[str, Any]:
    key, equals, value = line.removeprefix("--").partition("=")
    return key, value if equals else True


def _check(executor: submitit.SlurmExecutor, tasks: int = 1) -> None:
    """Have Slurm check the request without queueing it.

    Raises:
        UsageError: Slurm refuses; the message is Slurm's.
        SlurmDownError: it does not answer.
    """
    if tasks > 1:
        executor.parameters["map_count"] = tasks
    try:
        text = executor._make_submission_file_text("true", "check")
    finally:
        executor.parameters.pop("map_count", None)
    done = ask("sbatch", "--test-only", text=text)
    if done.returncode:
        raise UsageError(f"Slurm refuses the request: {' '.join(done.stderr.split())}")


@contextlib.contextmanager
def _slurm_errors() -> Iterator[None]:
    """Turns a failed submission into an error with Slurm's message, which submitit would print.

    Raises:
        UsageError: Slurm refuses.
        SlurmDownError: it does not answer.
    """
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    except (FailedJobError, FailedSubmissionError) as error:
        message = " ".join(str(error).split())
        if is_silence(message):
            raise SlurmDownError(message) from None
        raise UsageError(f"Slurm refuses the request: {message}") from None


def _open_jobs(submission: Submission) -> list[str]:
    return [] if submission.settled else submission.jobs
