"""What only Slurm does: queues, preemption, time limits, cancelled jobs and dead nodes."""

import io
import threading
import time
from pathlib import Path

import pytest
from rich.console import Console

from ablations.store.files import read_json, write_json
from ablations.store.manifest import Manifest, trial_folder, write_manifest
from ablations.store.record import TRIAL
from ablations.store.states import TrialState
from ablations.store.status import STATUS
from ablations.sweep.errors import UsageError
from ablations.sweep.launchers.launcher import Launch
from ablations.sweep.launchers.local import LocalLauncher
from ablations.sweep.launchers.slurm.launcher import SlurmLauncher
from ablations.sweep.launchers.slurm.queue import Submission, cancel, jobs, submissions
from ablations.sweep.launchers.slurm.settings import Settings
from ablations.sweep.overview import show
from tests.helpers.slurm_cluster import NODES, SlurmCluster
from tests.helpers.stub_trial import most_at_once, plan, runs

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(300)]

PLAIN = Settings(time="60", gpus_per_process=0)


def ignore(states: object) -> None:
    """Ignore the states."""


def by_name(job: Launch) -> dict[str, TrialState]:
    return {state.entry.id: state for state in job.states()}


def wait_until_running(cluster: SlurmCluster, job: Launch, name: str, step: int = 2) -> None:
    saved = trial_folder(job.work_dir, name) / "checkpoint.json"
    cluster.wait_for(lambda: (read_json(saved) or 0) >= step, 60)


def status_of(job: Launch) -> str:
    """What the status command prints."""
    command = {"command": "python runners/sweep.py --grid stub", "started": "", "machine": ""}
    grid = {"name": "stub"}
    manifest = Manifest("stub", grid, "stub", {}, [command], list(job.entries))
    write_manifest(job.work_dir, manifest)
    out = io.StringIO()
    show(job.work_dir, Console(file=out, width=200, highlight=False))
    return out.getvalue()


def test_every_process_gets_one_gpu_of_its_own(cluster: SlurmCluster, tmp_path: Path) -> None:
    job = plan(tmp_path / "sweep", {f"trial{i}": {"steps": 30} for i in range(4)})
    SlurmLauncher(Settings(time="60"), poll=0.5).run(job, ignore)
    places = [run for entry in job.entries for run in runs(trial_folder(job.work_dir, entry.id))]
    found = {(run["SLURMD_NODENAME"], run["CUDA_VISIBLE_DEVICES"]) for run in places}
    assert found == {(node, gpu) for node in NODES for gpu in ("0", "1")}


def test_a_request_that_no_node_can_meet_is_refused_in_slurms_words(
    cluster: SlurmCluster, tmp_path: Path
) -> None:
    job = plan(tmp_path / "sweep", {"one": {}, "two": {}})
    with pytest.raises(UsageError, match="Requested node configuration is not available"):
        SlurmLauncher(Settings(gpus_per_process=3)).submit(job)
    with pytest.raises(UsageError, match="invalid partition specified: nowhere"):
        SlurmLauncher(Settings(partition="nowhere")).submit(job)
    assert cluster.jobs() == []
    assert submissions(job.work_dir) == []


def test_submits_only_what_is_neither_done_nor_queued(
    cluster: SlurmCluster, tmp_path: Path
) -> None:
    work_dir = tmp_path / "sweep"
    launcher = SlurmLauncher(PLAIN, max_parallel=1)
    launcher.run(plan(work_dir, {"done": {}}), ignore)
    first = launcher.submit(plan(work_dir, {"one": {"steps": 20}, "two": {"steps": 20}}))
    assert first is not None and first.trials == ["one", "two"]
    every = plan(work_dir, {name: {"steps": 1} for name in ("done", "one", "two", "three")})
    second = launcher.submit(every)
    assert second is not None and second.trials == ["three"]
    assert launcher.submit(every) is None
    launcher.follow(every, ignore)
    assert {state.state for state in every.states()} == {"finished"}
    found = [runs(state.folder) for state in every.states()]
    assert [len(each) for each in found] == [1] * 4
    assert most_at_once([run for each in found for run in each]) == 1  # over both submissions


def test_the_last_job_runs_the_report_after_all_trials(
    cluster: SlurmCluster, tmp_path: Path
) -> None:
    job = plan(tmp_path / "sweep", {"well": {"steps": 10}, "dies": {"steps": 5, "die": [1]}})
    out = tmp_path / "report"
    count = f"ls {job.work_dir}/trials/*/record.json | wc -l > {out}"
    SlurmLauncher(PLAIN, report=("sh", "-c", count)).submit(job)
    cluster.wait_for(out.exists, 60)
    cluster.wait_for(lambda: not cluster.jobs(), 30)
    assert out.read_text().strip() == "2"  # also the one that was queued again


def test_trials_that_were_stopped_show_why_and_continue(
    cluster: SlurmCluster, tmp_path: Path
) -> None:
    long = {"steps": 2000}
    job = plan(
        tmp_path / "sweep",
        {
            "raises": {"raise": "ValueError: no such loss"},
            "killed": {"steps": 6, "die": [1, 2, 3]},
            "cancelled": long,
            "late": long,
            "deaf": long | {"deaf": True},
            "well": {"steps": 10},
        },
    )
    launcher = SlurmLauncher(
        Settings(time="1", signal_seconds=5, requeues=0, gpus_per_process=0), poll=0.5
    )
    submitted = launcher.submit(job)
    assert submitted is not None
    wait_until_running(cluster, job, "cancelled")
    cluster.run("scancel", jobs(job.work_dir)["cancelled"].id)
    launcher.follow(job, ignore)
    states = by_name(job)
    table = status_of(job)
    reasons = {
        "killed": "killed by SIGKILL; requeued 2 times",
        "cancelled": f"cancelled (Slurm job {submitted.job_id(2)})",
        "late": "its time limit of 1 min was near; requeued 0 times",
        "deaf": f"ran out of time (Slurm job {submitted.job_id(4)})",
    }
    for name, reason in reasons.items():
        assert (states[name].state, states[name].reason) == ("interrupted", reason)
        assert reason in table
    assert (states["raises"].state, states["raises"].reason) == (
        "failed",
        "ValueError: no such loss",
    )
    assert states["well"].state == "finished"
    assert f"missing, neither done nor queued: {', '.join(f'{n} seed 0' for n in reasons)}" in table

    # The same command again, for the trials without a record; the long ones are nearly done.
    for name in ("cancelled", "late", "deaf"):
        steps = read_json(states[name].folder / "checkpoint.json")
        write_json(states[name].folder / TRIAL, {"steps": steps + 2})
    left = Launch(job.work_dir, [states[name].entry for name in reasons], job.entry_point)
    launcher.run(left, ignore)
    assert {state.state for state in left.states()} == {"finished"}
    assert runs(states["late"].folder)[1]["first"] == runs(states["late"].folder)[0]["last"]


def test_a_preempted_trial_goes_on_and_a_bound_is_kept(
    cluster: SlurmCluster, tmp_path: Path
) -> None:
    job = plan(tmp_path / "sweep", {"trial": {"steps": 60}})
    launcher = SlurmLauncher(Settings(time="60", requeues=1, gpus_per_process=0), poll=0.5)
    launcher.submit(job)
    for _ in range(2):
        ran = len(runs(trial_folder(job.work_dir, "trial")))
        step = read_json(trial_folder(job.work_dir, "trial") / "checkpoint.json") or 0
        wait_until_running(cluster, job, "trial", step + 2)
        cluster.run("scancel", "--signal=USR2", jobs(job.work_dir)["trial"].id)
        cluster.wait_for(lambda ran=ran: len(runs(trial_folder(job.work_dir, "trial"))) > ran, 30)
    launcher.follow(job, ignore)
    state = by_name(job)["trial"]
    assert (state.state, state.reason) == ("interrupted", "stopped by SIGUSR2; requeued 1 times")
    noted = read_json(state.folder / STATUS)
    assert [each["kind"] for each in noted["requeues"]] == ["stopped"]
    assert len(noted["attempts"]) == 2
    launcher.run(job, ignore)
    assert by_name(job)["trial"].state == "finished"
    assert sum(r["last"] - r["first"] for r in runs(state.folder)) == 60  # no step was done twice


def test_preemption_by_sigterm_costs_nothing_either(cluster: SlurmCluster, tmp_path: Path) -> None:
    """A cluster that does not send the requested signal sends SIGTERM, then SIGKILL."""
    job = plan(tmp_path / "sweep", {"trial": {"steps": 60}})
    launcher = SlurmLauncher(PLAIN, poll=0.5)
    with cluster.without("SlurmctldParameters=preempt_send_user_signal"):
        launcher.submit(job)
        wait_until_running(cluster, job, "trial")
        node = jobs(job.work_dir)["trial"].detail
        urgent = ("sbatch", "-p", "high", "-w", node, "-c", "4", "-o", "/dev/null")
        cluster.run(*urgent, "--wrap", "sleep 20")
        launcher.follow(job, ignore)
    state = by_name(job)["trial"]
    assert state.state == "finished"
    first, last = runs(state.folder)
    assert first["last"] == last["first"] and last["last"] == 60  # no step was done twice
    assert first["SLURMD_NODENAME"] == node != last["SLURMD_NODENAME"]
    noted = read_json(state.folder / STATUS)["requeues"]
    assert [each["reason"] for each in noted] == ["stopped by SIGTERM"]


def test_a_node_that_goes_down_costs_the_steps_since_the_checkpoint(
    cluster: SlurmCluster, tmp_path: Path
) -> None:
    job = plan(tmp_path / "sweep", {"trial": {"steps": 50}})
    launcher = SlurmLauncher(PLAIN, poll=0.5)
    launcher.submit(job)
    wait_until_running(cluster, job, "trial", 5)
    node = jobs(job.work_dir)["trial"].detail
    cluster.lose_node(node)
    try:
        launcher.follow(job, ignore)
    finally:
        cluster.return_node(node)
    state = by_name(job)["trial"]
    assert state.state == "finished"
    [place] = runs(state.folder)  # the first attempt had no time to say where it ran
    assert place["SLURMD_NODENAME"] != node
    assert place["first"] >= 5
    assert len(read_json(state.folder / STATUS)["attempts"]) == 2


def test_cancelling_a_sweep_leaves_other_sweeps_alone(
    cluster: SlurmCluster, tmp_path: Path
) -> None:
    mine = plan(tmp_path / "mine", {"one": {"steps": 300}, "two": {"steps": 300}})
    other = plan(tmp_path / "other", {"one": {"steps": 40}, "two": {"steps": 40}})
    launcher = SlurmLauncher(PLAIN, max_parallel=1, report=("true",), poll=0.5)
    first = launcher.submit(mine)
    SlurmLauncher(PLAIN, poll=0.5).submit(other)
    assert first is not None
    wait_until_running(cluster, mine, "one")
    assert cancel(mine.work_dir) == [first.job, first.report]
    launcher.follow(mine, ignore)
    launcher.follow(other, ignore)
    assert [state.state for state in mine.states()] == ["interrupted", "interrupted"]
    assert [state.reason for state in mine.states()] == [
        f"cancelled (Slurm job {first.job_id(index)})" for index in (0, 1)
    ]
    assert {state.state for state in other.states()} == {"finished"}
    assert cancel(mine.work_dir) == []


def test_a_sweep_begun_on_slurm_is_finished_by_the_local_launcher(
    cluster: SlurmCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = plan(tmp_path / "sweep", {f"trial{i}": {"steps": 30} for i in range(4)})
    launcher = SlurmLauncher(PLAIN, max_parallel=1, poll=0.5)
    launcher.submit(job)
    wait_until_running(cluster, job, "trial0")
    LocalLauncher(2).run(job, ignore)
    assert {state.state for state in job.states()} == {"finished"}
    cluster.wait_for(lambda: not cluster.jobs(), 60)
    assert all(len(runs(state.folder)) == 1 for state in job.states())
    assert {job.state for job in jobs(job.work_dir).values()} == {"COMPLETED"}


def test_status_and_submission_with_the_cluster_down(cluster: SlurmCluster, tmp_path: Path) -> None:
    job = plan(tmp_path / "sweep", {"trial": {"steps": 100}})
    launcher = SlurmLauncher(PLAIN, poll=0.5)
    launcher.submit(job)
    wait_until_running(cluster, job, "trial")
    assert "RUNNING" in status_of(job)
    cluster.stop_controller()
    try:
        table = status_of(job)
        assert "Slurm does not answer" in table
        assert "1 running" in table
        with pytest.raises(UsageError, match="Slurm does not answer"):
            launcher.submit(job)
    finally:
        cluster.start_controller()
    launcher.follow(job, ignore)
    assert by_name(job)["trial"].state == "finished"


def test_a_controller_that_is_away_in_the_middle_costs_nothing(
    cluster: SlurmCluster, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    """It is away right after the submission, and again while trials run and die."""
    job = plan(
        tmp_path / "sweep",
        {"dies": {"steps": 30, "die": [1]}} | {f"trial{i}": {"steps": 60} for i in range(3)},
    )

    submitted, away = threading.Event(), threading.Event()

    class Held(SlurmLauncher):
        """Asks Slurm nothing after its submission until the controller is away."""

        def _submit(self, launch: Launch) -> Submission | None:
            found = super()._submit(launch)
            submitted.set()
            assert away.wait(60)
            return found

    launcher = Held(PLAIN, max_parallel=2, poll=0.5)
    command = threading.Thread(target=launcher.run, args=(job, ignore), daemon=True)
    command.start()
    assert submitted.wait(60)
    for seconds in (15, 8):  # squeue itself asks again for some ten seconds
        cluster.stop_controller()
        away.set()
        try:
            time.sleep(seconds)
        finally:
            cluster.start_controller()
        # Away again while this trial dies, so that it cannot be queued again meanwhile.
        wait_until_running(cluster, job, "dies", 1)
    command.join(120)
    assert not command.is_alive()
    assert {state.state for state in job.states()} == {"finished"}
    found = {name: runs(state.folder) for name, state in by_name(job).items()}
    assert [len(each) for each in found.values()] == [2, 1, 1, 1]
    errors = capfd.readouterr().err
    assert "Slurm does not answer" in errors and "Traceback" not in errors


def test_more_trials_than_an_array_takes(cluster: SlurmCluster, tmp_path: Path) -> None:
    names = [f"trial{i}" for i in range(7)]
    job = plan(tmp_path / "sweep", {name: {"steps": 8} for name in names})
    out = tmp_path / "report"
    count = f"ls {job.work_dir}/trials/*/record.json | wc -l > {out}"
    launcher = SlurmLauncher(PLAIN, max_parallel=2, report=("sh", "-c", count), poll=0.5)
    with cluster.with_line("MaxArraySize=3"):
        submitted = launcher.submit(job)
        assert submitted is not None and len(submitted.jobs) == 3
        assert [job.id for job in jobs(job.work_dir).values()] == [
            *(f"{submitted.jobs[0]}_{i}" for i in range(3)),
            *(f"{submitted.jobs[1]}_{i}" for i in range(3)),
            submitted.jobs[2],
        ]
        assert launcher.submit(job) is None
        launcher.follow(job, ignore)
        cluster.wait_for(out.exists, 60)
        cluster.wait_for(lambda: not cluster.jobs(), 30)
    assert {state.state for state in job.states()} == {"finished"}
    found = [runs(state.folder) for state in job.states()]
    assert [len(each) for each in found] == [1] * 7
    assert most_at_once([run for each in found for run in each]) == 2
    assert out.read_text().strip() == "7"


@pytest.mark.parametrize("processes", [1, 2])
def test_a_plan_that_fails_its_check_starts_no_trial(
    cluster: SlurmCluster, tmp_path: Path, processes: int
) -> None:
    job = plan(tmp_path / "sweep", {"one": {}, "two": {}}, processes)
    launcher = SlurmLauncher(PLAIN, check="tests.helpers.stub_trial:refuse", poll=0.5)
    launcher.run(job, ignore)
    assert [(s.state, s.reason) for s in job.states()] == [
        ("interrupted", "the plan is refused: gamma is -1 in one; gamma is -1 in two")
    ] * 2
    assert not any("requeues" in read_json(state.folder / STATUS) for state in job.states())
    assert not any(runs(state.folder) for state in job.states())
