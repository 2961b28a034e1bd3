"""Slurm's answers at the worst moment: none, late, a refusal half way, an array too large."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from ablations.store.manifest import trial_folder
from ablations.store.record import Record, write_record
from ablations.store.states import TrialState
from ablations.sweep.errors import UsageError
from ablations.sweep.launchers.launcher import Launch
from ablations.sweep.launchers.slurm import task
from ablations.sweep.launchers.slurm.launcher import SlurmLauncher
from ablations.sweep.launchers.slurm.queue import (
    SlurmDownError,
    cancel,
    is_silence,
    jobs,
    largest_array,
    submissions,
)
from ablations.sweep.launchers.slurm.settings import Settings
from tests.helpers.silent_slurm import SilentSlurm
from tests.helpers.stub_trial import plan

PLAIN = Settings(time="60", gpus_per_process=0)


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SilentSlurm:
    found = SilentSlurm.install(tmp_path / "slurm")
    monkeypatch.setenv("PATH", found.path)
    return found


def launcher(patience: float = 30.0, **options: object) -> SlurmLauncher:
    return SlurmLauncher(PLAIN, poll=0.2, patience=patience, **options)  # type: ignore[arg-type]


def finish(job: Launch, after: int = 2):
    """A watcher that lets the trials finish at its second look."""
    looks: list[Sequence[TrialState]] = []

    def watch(states: Sequence[TrialState]) -> None:
        looks.append(states)
        if len(looks) == after:
            for state in states:
                entry = state.entry
                record = Record(entry.id, "sweep", {}, entry.id, 0, "finished")
                write_record(trial_folder(job.work_dir, entry.id), record)

    return watch


def test_silence_right_after_a_submission_is_waited_out(
    slurm: SilentSlurm, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    job = plan(tmp_path / "sweep", {"one": {}, "two": {}})
    slurm.silent_after_submission(4)
    slurm.queue("100_0|RUNNING|node", "100_1|PENDING|Resources")
    launcher(wait=True).run(job, finish(job))
    assert [state.state for state in job.states()] == ["finished", "finished"]
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("Slurm does not answer (squeue: error: Unable to contact")
    assert len(slurm.jobs()) == 1


def test_silence_without_end_is_one_line_and_what_is_queued_stays(
    slurm: SilentSlurm, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    job = plan(tmp_path / "sweep", {"one": {}})
    slurm.silent_after_submission(10_000)
    launcher(patience=1.0, wait=True).run(job, lambda states: None)
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("Slurm does not answer: squeue: error: Unable to contact")
    assert last.endswith("what is queued goes on, the same command follows it")
    assert [each.trials for each in submissions(job.work_dir)] == [["one"]]


def test_silence_before_a_submission_leaves_nothing(slurm: SilentSlurm, tmp_path: Path) -> None:
    for answered in range(3):  # the question for the largest array, the check, the submission
        job = plan(tmp_path / f"sweep{answered}", {"one": {}})
        program = slurm.folder / "bin" / ("scontrol", "sbatch", "sbatch")[answered]
        text = program.read_text()
        broken = "echo 'Socket timed out on send/recv operation' >&2; exit 1"
        if answered == 2:
            broken = f'[ "$1" = --test-only ] || {{ {broken}; }}'
        program.write_text(text.replace("#!/bin/sh\n", f"#!/bin/sh\n{broken}\n"))
        with pytest.raises(UsageError, match="Slurm does not answer: Socket timed out"):
            launcher().submit(job)
        program.write_text(text)
        assert list(job.work_dir.glob("slurm/submission-*")) == []
    assert slurm.jobs() == []


def test_a_machine_without_slurm_is_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    job = plan(tmp_path / "sweep", {"one": {}})
    with pytest.raises(UsageError, match="not installed here: there is no sbatch, srun, squeue"):
        launcher().run(job, lambda states: None)


@pytest.mark.parametrize("limit", ["MaxArraySize            = 4", "max_array_tasks=4,defer"])
def test_a_large_sweep_is_several_arrays_that_hold_the_limit_together(
    slurm: SilentSlurm, tmp_path: Path, limit: str
) -> None:
    slurm.configure(f"MaxArraySize            = 1001\nSchedulerParameters     = {limit}\n{limit}\n")
    job = plan(tmp_path / "sweep", {f"t{i}": {} for i in range(9)})
    found = launcher(max_parallel=3, report=("true",)).submit(job)
    assert found is not None
    assert (found.jobs, found.size, len(found.trials)) == (["100", "101", "102"], 4, 9)
    assert found.job_id(0) == "100_0" and found.job_id(7) == "101_3"
    assert found.job_id(8) == "102"  # submitit makes no array of a single one
    arrays = slurm.jobs()
    assert [each.get("array") for each in arrays] == ["0-3%3", "0-3%3", None, None]
    assert [each.get("dependency") for each in arrays] == [
        None,
        "afterany:100",
        "afterany:100:101",
        "afterany:100:101:102",  # the report
    ]
    slurm.queue(*(f"{found.job_id(i)}|PENDING|x" for i in range(9)), "103|PENDING|Dependency")
    assert [jobs(job.work_dir)[f"t{i}"].id for i in range(9)] == [found.job_id(i) for i in range(9)]
    assert launcher(max_parallel=3).submit(job) is None
    assert cancel(job.work_dir) == ["100", "101", "102", "103"]
    assert slurm.calls()[-1] == "scancel 100 101 102 103"


def test_without_a_limit_the_arrays_run_side_by_side(slurm: SilentSlurm, tmp_path: Path) -> None:
    slurm.configure("MaxArraySize = 2\n")
    launcher().submit(plan(tmp_path / "sweep", {f"t{i}": {} for i in range(4)}))
    assert [each.get("dependency") for each in slurm.jobs()] == [None, None]


def test_each_task_knows_its_trial(
    slurm: SilentSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slurm.configure("MaxArraySize = 2\n")
    job = plan(tmp_path / "sweep", {f"t{i}": {} for i in range(5)})
    found = launcher().submit(job)
    assert found is not None
    scripts = [path.read_text() for path in sorted(slurm.folder.glob("job-*"))]
    assert [script.rstrip().rpartition(" ")[2] for script in scripts] == ["0", "2", "4"]
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "101")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "1")
    task.after(found.path, 1, 5, 2)
    assert [state.state for state in job.states()] == ["pending"] * 3 + ["interrupted", "pending"]
    assert slurm.calls()[-1] == "scontrol requeue 101_1"


def test_a_refusal_half_way_keeps_what_is_queued_and_sends_the_rest_later(
    slurm: SilentSlurm, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    slurm.configure("MaxArraySize = 2\n")
    slurm.refuse_after(2)
    job = plan(tmp_path / "sweep", {f"t{i}": {} for i in range(5)})
    found = launcher().submit(job)
    assert found is not None and found.trials == ["t0", "t1", "t2", "t3"]
    [line] = capsys.readouterr().err.splitlines()
    assert line == (
        "1 trials are not submitted yet: Slurm refuses the request: sbatch: error: Job violates "
        "accounting/QOS policy (job submit limit)"
    )
    assert list(jobs(job.work_dir)) == found.trials
    slurm.queue(*(f"{found.job_id(i)}|RUNNING|x" for i in range(4)))
    slurm.refuse_after(99)
    rest = launcher().submit(job)
    assert rest is not None and rest.trials == ["t4"]


def test_a_report_that_is_refused_is_told_and_the_trials_stay(
    slurm: SilentSlurm, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    slurm.refuse_after(1)
    job = plan(tmp_path / "sweep", {"one": {}, "two": {}})
    text = launcher(report=("true",)).hand_over(job)
    assert text is not None and text.startswith("submitted 2 trials as Slurm job 100\nfollow:")
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("the trials are queued, but not the job for their report: Slurm refuses")


def test_a_requeue_waits_for_the_controller(
    slurm: SilentSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = plan(tmp_path / "sweep", {"one": {}})
    found = launcher().submit(job)
    assert found is not None
    monkeypatch.setenv("SLURM_JOB_ID", "100")
    monkeypatch.setattr("ablations.sweep.launchers.slurm.queue.time.sleep", lambda _: None)
    slurm.silent(3)
    task.after(found.path, 1, 5)
    assert slurm.calls()[-4:] == ["scontrol requeue 100"] * 4
    assert job.states()[0].reason == "its process exited with status 1; requeued"


def test_submissions_of_earlier_versions_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "slurm"
    folder.mkdir()
    (folder / "submission-1.json").write_text('{"job": "7", "trials": ["a", "b"], "report": "8"}')
    (folder / "submission-2.json").write_text('{"trials": ["c"]}')  # it was never queued
    [found] = submissions(tmp_path)
    assert (found.jobs, found.trials, found.report) == (["7"], ["a", "b"], "8")
    assert [found.job_id(i) for i in range(2)] == ["7_0", "7_1"]
    (folder / "submission-3.json").write_text("[1]")
    with pytest.raises(ValueError, match=r"submission-3\.json is no submission"):
        submissions(tmp_path)


def test_what_counts_as_silence(slurm: SilentSlurm) -> None:
    for message in (
        "Unable to contact slurm controller (connect failure)",
        "Socket timed out on send/recv operation",
        "Zero Bytes were transmitted or received",
        "Slurm backup controller in standby mode",
        "Slurm temporarily unable to accept job, sleeping and retrying",
        "Resource temporarily unavailable",
    ):
        assert is_silence(f"sbatch: error: Batch job submission failed: {message}")
    for message in ("Requested node configuration is not available", "Invalid partition specified"):
        assert not is_silence(message)
    slurm.configure("SchedulerParameters = (null)\nMaxArraySize = 0\n")
    assert largest_array() == 1
    slurm.configure("")
    assert largest_array() is None
    slurm.silent(1)
    with pytest.raises(SlurmDownError):
        largest_array()
