"""The Slurm launcher: submits a sweep as one job array, and a small job for its report."""

import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import submitit
from submitit.core.utils import FailedJobError, FailedSubmissionError

from ablations.shipped import command
from ablations.store.files import write_json
from ablations.store.states import StateReader
from ablations.sweep.errors import UsageError
from ablations.sweep.launchers.launcher import Launch, Watch
from ablations.sweep.launchers.slurm.queue import (
    FOLDER,
    SlurmDownError,
    Submission,
    goes_on,
    live_trials,
    number_of,
    settle,
    submissions,
    wait_while_completing,
)
from ablations.sweep.launchers.slurm.settings import Settings
from ablations.sweep.launchers.slurm.task import run_task, write_report

POLL = 15.0  # seconds between questions to the controller while a sweep is followed


@dataclass(frozen=True)
class SlurmLauncher:
    """Runs trials as tasks of a job array.

    Args:
        settings: of the request.
        max_parallel: tasks of the sweep that may run at a time; ``None`` leaves it to Slurm. With
            a limit, a submission waits for the arrays of earlier ones.
        check: ``module:function`` that checks the plan: it is called on a compute node, before any
            trial starts, with the trials' folders, and returns one line for each mistake.
        report: the command that the dependent job runs when the array has ended.
        wait: follow the trials to their end instead of returning when they are queued.
        poll: seconds between questions to Slurm.
    """

    trains_here = False

    settings: Settings = field(default_factory=Settings)
    max_parallel: int | None = None
    check: str = ""
    report: Sequence[str] = ()
    wait: bool = False
    poll: float = POLL

    def hand_over(self, launch: Launch) -> str | None:
        """Submit the trials and return, unless ``wait`` is set; see ``Launcher``."""
        if self.wait:
            return None
        submission = self.submit(launch)
        lines = ["every unfinished trial is queued or running already"]
        if submission is not None:
            lines = [f"submitted {len(submission.trials)} trials as Slurm job {submission.job}"]
            if submission.report:
                lines.append(f"job {submission.report} writes the report when they have ended")
        status = f"{command('status')} {launch.work_dir}"
        return "\n".join([*lines, f"follow: {status}", f"cancel: {status} --cancel"])

    def run(self, launch: Launch, watch: Watch) -> None:
        """Submit the trials and follow them to their end. They keep running after Ctrl-C.

        Raises:
            UsageError: Slurm refuses the request; nothing is queued.
        """
        left = list(launch.entries)
        while left:
            this = replace(launch, entries=left)
            submission = self.submit(this)
            queued = set(submission.trials if submission else ()) | set(
                live_trials(launch.work_dir)
            )
            self.follow(this, watch)
            # A trial that another command was running is submitted now, if it is still not done.
            left = [s.entry for s in this.states() if s.record is None and s.entry.id not in queued]
        watch(launch.states())

    def submit(self, launch: Launch) -> Submission | None:
        """Submit the trials that are neither finished nor queued nor running.

        Returns:
            The submission; ``None`` if there was nothing to submit.

        Raises:
            UsageError: Slurm refuses the request; the message is Slurm's, and nothing is queued.
        """
        try:
            wait_while_completing(launch.work_dir)
            settle(launch.work_dir)
            queued = live_trials(launch.work_dir)
        except SlurmDownError as error:
            raise UsageError(f"Slurm does not answer: {error}") from None
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
        array = self._array(launch, path)
        earlier = [each.job for each in submissions(launch.work_dir) if not each.settled]
        if self.max_parallel and earlier:  # Slurm limits an array, max_parallel the whole sweep
            array.update_parameters(dependency=f"afterany:{':'.join(earlier)}")
        report = self._report_job(launch)
        _check(array, tasks=len(todo))
        if self.report:
            _check(report)
        value: dict[str, Any] = {
            "trials": todo,
            "settings": asdict(self.settings),
            "max_parallel": self.max_parallel,
            "submitted": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        }
        write_json(path, value)
        with _slurm_errors(), array.batch():
            tasks = [
                array.submit(run_task, launch.entry_point, self.check, str(path), trial)
                for trial in todo
            ]
        value["job"] = tasks[0].job_id.partition("_")[0]
        write_json(path, value)
        if self.report:
            report.update_parameters(dependency=f"afterany:{value['job']}")
            with _slurm_errors():
                last = report.submit(
                    write_report, str(launch.work_dir.absolute()), list(self.report)
                )
            value["report"] = last.job_id
            write_json(path, value)
        return Submission(path, value["job"], todo, value.get("report", ""))

    def follow(self, launch: Launch, watch: Watch) -> None:
        """Show the trials until none of them waits or runs."""
        asked = -self.poll
        reader = StateReader(launch.work_dir, launch.entries)
        while True:
            states = reader.read()
            watch(states)
            if all(state.record is not None for state in states):
                break
            if time.monotonic() - asked >= self.poll:
                asked = time.monotonic()
                if not goes_on(launch.work_dir, states):
                    break
            time.sleep(1)
        try:
            settle(launch.work_dir)
        except SlurmDownError as error:
            print(f"Slurm does not answer: {error}", file=sys.stderr)
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

    def _array(self, launch: Launch, path: Path) -> submitit.SlurmExecutor:
        """The request for the job array: one task for each trial, with all its processes.

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
                f"[ $code = 0 ] || exec {me} after {shlex.quote(str(path))} $code $SECONDS",
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
    """Turns a refused submission into a ``UsageError`` with Slurm's message."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, FailedJobError | FailedSubmissionError):
            raise UsageError(f"Slurm refuses the request: {' '.join(str(error).split())}") from None
