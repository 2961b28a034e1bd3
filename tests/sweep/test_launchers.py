"""The interface of the launchers, tested on the local one and on Slurm's."""

import threading
import time
from pathlib import Path

import pytest

from ablations.store.files import read_json
from ablations.store.lease import Lease
from ablations.store.manifest import trial_folder
from ablations.store.states import TrialState
from ablations.sweep.launchers.launcher import MAX_ATTEMPTS, Launch
from ablations.sweep.launchers.local import LocalLauncher
from ablations.sweep.launchers.slurm.launcher import SlurmLauncher
from ablations.sweep.launchers.slurm.settings import Settings
from tests.helpers.stub_trial import most_at_once, plan, runs

Launcher = LocalLauncher | SlurmLauncher
AT_A_TIME = 2


@pytest.fixture(params=["local", pytest.param("slurm", marks=pytest.mark.slurm)])
def launcher(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Launcher:
    """Two trials at a time."""
    if request.param == "local":
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
        return LocalLauncher(AT_A_TIME)
    request.getfixturevalue("cluster")
    settings = Settings(time="60", gpus_per_process=0)
    return SlurmLauncher(settings, max_parallel=AT_A_TIME, poll=0.5)


def run(launcher: Launcher, job: Launch) -> dict[str, TrialState]:
    launcher.run(job, lambda states: None)
    return {state.entry.id: state for state in job.states()}


def test_runs_every_trial_once_and_never_too_many_at_a_time(
    launcher: Launcher, tmp_path: Path
) -> None:
    job = plan(tmp_path / "sweep", {f"trial{i}": {"steps": 10} for i in range(5)})
    watched: list[int] = []
    launcher.run(job, lambda states: watched.append(len(states)))
    found = [runs(trial_folder(job.work_dir, entry.id)) for entry in job.entries]
    assert [len(each) for each in found] == [1] * 5
    assert most_at_once([run for each in found for run in each]) == AT_A_TIME
    assert [state.state for state in job.states()] == ["finished"] * 5
    assert watched and set(watched) == {5}


def test_a_trial_that_fails_or_dies_does_not_stop_the_others(
    launcher: Launcher, tmp_path: Path
) -> None:
    every = list(range(1, MAX_ATTEMPTS + 2))
    job = plan(
        tmp_path / "sweep",
        {
            "raises": {"raise": "ValueError: no such loss"},
            "dies once": {"steps": 6, "die": [1]},
            "dies always": {"steps": 6, "die": every},
            "well": {"steps": 6},
        },
    )
    states = run(launcher, job)
    assert {name: state.state for name, state in states.items()} == {
        "raises": "failed",
        "dies once": "finished",
        "dies always": "interrupted",
        "well": "finished",
    }
    assert states["raises"].reason == "ValueError: no such loss"
    assert "killed by SIGKILL" in (states["dies always"].reason or "")
    assert len(runs(states["dies always"].folder)) == MAX_ATTEMPTS
    # It resumed from step 3.
    assert [(r["first"], r["last"]) for r in runs(states["dies once"].folder)] == [(0, 3), (3, 6)]


def test_the_same_job_again_continues(launcher: Launcher, tmp_path: Path) -> None:
    every = list(range(1, MAX_ATTEMPTS + 1))
    job = plan(tmp_path / "sweep", {"dies": {"steps": 6, "die": every}, "well": {"steps": 2}})
    assert run(launcher, job)["dies"].state == "interrupted"
    left = Launch(job.work_dir, job.entries[:1], job.entry_point)
    assert run(launcher, left)["dies"].state == "finished"


def test_waits_for_a_trial_that_somebody_else_runs(launcher: Launcher, tmp_path: Path) -> None:
    job = plan(tmp_path / "sweep", {"held": {"steps": 1}, "free": {"steps": 1}})
    folder = trial_folder(job.work_dir, "held")
    released = threading.Event()

    def hold() -> None:
        with Lease(folder):
            released.wait(8)
        released.set()

    owner = threading.Thread(target=hold)
    owner.start()
    while not (folder / "lease.json").exists():
        time.sleep(0.01)
    states = run(launcher, job)
    owner.join()
    assert released.is_set()
    assert {state.state for state in states.values()} == {"finished"}
    assert len(runs(folder)) == 1


def test_the_ranks_of_a_trial_find_each_other(launcher: Launcher, tmp_path: Path) -> None:
    names = ("one", "two")
    job = plan(tmp_path / "sweep", {name: {"steps": 5} for name in names}, processes=2)
    states = run(launcher, job)
    assert {state.state for state in states.values()} == {"finished"}
    ports = set()
    for name in names:
        found = read_json(trial_folder(job.work_dir, name) / "ranks.json")
        assert [each["rank"] for each in found] == [0, 1]
        ports |= {each["place"][1] for each in found}
    assert len(ports) == 2  # trials side by side do not share a port
