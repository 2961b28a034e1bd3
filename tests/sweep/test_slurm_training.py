"""Sweeps that train on a real Slurm, through the commands."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from ablations.store.files import read_json
from ablations.store.record import CURVE, PREDICTIONS, WEIGHTS
from ablations.store.states import TrialState, sweep_states
from ablations.store.status import STATUS
from ablations.sweep.launchers.slurm.queue import jobs
from tests.helpers.slurm_cluster import NODES, SlurmCluster

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
SLOW = ("--cfg-options", "train_dataloader.batch_size=96")  # time to interrupt thirty iterations

# Runs a script where importing torch is an error, as on a login node that cannot.
LOGIN_NODE = """
import runpy, sys

class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            raise ImportError("there is no torch on a login node")

sys.meta_path.insert(0, NoTorch())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""

# A loss of the user's own, outside the package, that fails while a file exists.
MOODY = """
import os
from ablations.losses.modules import FocalLoss
from ablations.losses.registry import LOSSES

@LOSSES.register_module()
class Moody(FocalLoss):
    calls = 0  # a check before the first trial tries a batch, which must pass

    def forward(self, *args, **kwargs):
        self.calls += 1
        if self.calls > 20 and os.path.exists(os.environ["MOODY"]):
            raise RuntimeError("not in the mood")
        return super().forward(*args, **kwargs)
"""

GRID = """
blocks = [
    dict(
        product=dict(gamma=[0, 2]),
        set={
            "model.bbox_head.loss_cls": dict(
                type="ablations.FocalLoss", gamma="$gamma", use_sigmoid=True
            )
        },
    ),
    dict(
        points=[dict(loss="moody")],
        set={
            "custom_imports.imports": ["ablations.training", "moody"],
            "model.bbox_head.loss_cls": dict(type="ablations.Moody", use_sigmoid=True),
        },
    ),
]
"""
ONE_POINT = """
blocks = [dict(points=[dict(loss="CE")], set={
    "model.bbox_head.loss_cls": dict(type="ablations.CrossEntropyLoss", use_sigmoid=True)})]
"""


@dataclass(frozen=True)
class Project:
    """A folder with its own work directories and reports."""

    folder: Path

    def command(self, script: str, *flags: str) -> list[str]:
        return [sys.executable, "-c", LOGIN_NODE, str(ROOT / "runners" / script), *flags]

    def run(self, script: str, *flags: str) -> subprocess.CompletedProcess[str]:
        """Run a command as on a login node without torch."""
        return subprocess.run(
            self.command(script, *flags),
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=400,
        )

    def trials(self, name: str) -> list[TrialState]:
        return sweep_states(self.folder / "work_dirs" / name)[1]


@pytest.fixture
def project(
    cluster: SlurmCluster, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Project:
    for name in ("configs", "data"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "grid.py").write_text(GRID)
    (tmp_path / "one.py").write_text(ONE_POINT)
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins/moody.py").write_text(MOODY)
    path = os.pathsep.join((str(tmp_path / "plugins"), os.environ.get("PYTHONPATH", "")))
    monkeypatch.setenv("PYTHONPATH", path)
    monkeypatch.setenv("MOODY", str(tmp_path / "moody"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    return Project(tmp_path)


def sweep(name: str, grid: str, *settings: str) -> list[str]:
    """The flags of a smoke sweep on Slurm."""
    flags = ["--grid", grid, "--smoke", "--work-dir", f"work_dirs/{name}", "--launcher", "slurm"]
    return [*flags, "--slurm", "time=60", "cpus_per_process=1", *settings]


def wait_for_iteration(cluster: SlurmCluster, trial: TrialState, iteration: int) -> None:
    def reached() -> bool:
        status = read_json(trial.folder / STATUS) or {}
        assert not status.get("reason"), status
        return status.get("iteration", 0) >= iteration

    cluster.wait_for(reached, 240)


def most_running(cluster: SlurmCluster, name: str, until: Path, seconds: float) -> int:
    """The most tasks of a sweep that ran at a time until a file appeared."""
    deadline, most = time.monotonic() + seconds, 0
    while not until.exists():
        assert time.monotonic() < deadline, cluster.jobs()
        lines: Sequence[str] = cluster.jobs("%j %T")
        most = max(most, sum(line == f"{name} RUNNING" for line in lines))
        time.sleep(0.2)
    return most


def test_the_smoke_grid_runs_as_an_array_to_its_report(
    cluster: SlurmCluster, project: Project
) -> None:
    refused = project.run("sweep.py", *sweep("grid", "grid.py", "gpus_per_process=3"))
    assert refused.returncode == 2
    assert "Requested node configuration is not available" in refused.stderr
    assert cluster.jobs() == []

    mood = project.folder / "moody"
    mood.touch()
    flags = [*sweep("grid", "grid.py"), "--max-parallel", "2"]
    submitted = project.run("sweep.py", *flags)
    assert submitted.returncode == 0, submitted.stderr
    assert "submitted 3 trials as Slurm job" in submitted.stdout
    again = project.run("sweep.py", *flags)
    assert "every unfinished trial is queued or running already" in again.stdout

    report = project.folder / "reports/grid/README.md"
    assert most_running(cluster, "grid", report, 400) == 2
    cluster.wait_for(lambda: not cluster.jobs(), 60)
    trials = project.trials("grid")
    assert [trial.state for trial in trials] == ["finished", "finished", "failed"]
    assert trials[2].reason == "RuntimeError: not in the mood"
    assert "not in the mood" in report.read_text()
    status = project.run("status.py", "work_dirs/grid")
    assert "not in the mood" in status.stdout
    assert "1 failed, 2 finished" in status.stdout

    mood.unlink()
    done = project.run("sweep.py", *flags, "--wait", "--retry-failed")
    assert done.returncode == 0, done.stderr
    assert [trial.state for trial in project.trials("grid")] == ["finished"] * 3
    assert "not in the mood" not in report.read_text()


def test_a_preempted_trial_ends_with_the_numbers_of_an_uninterrupted_one(
    cluster: SlurmCluster, project: Project
) -> None:
    local = ["--grid", "one.py", "--smoke", "--workers", "1", "--no-report", *SLOW]
    script = str(ROOT / "runners/sweep.py")
    uninterrupted = subprocess.Popen(
        [sys.executable, script, *local, "--work-dir", "work_dirs/plain"],
        cwd=project.folder,
        stdout=subprocess.DEVNULL,
    )
    try:
        flags = [*sweep("preempted", "one.py"), *SLOW, "--no-report"]
        submitted = project.run("sweep.py", *flags)
        assert submitted.returncode == 0, submitted.stderr
        [trial] = project.trials("preempted")
        wait_for_iteration(cluster, trial, 4)
        work_dir = project.folder / "work_dirs/preempted"
        node = jobs(work_dir)[trial.entry.id].detail
        urgent = ("sbatch", "-p", "high", "-w", node, "-c", "4", "-o", "/dev/null")
        cluster.run(*urgent, "--wrap", "sleep 40")
        followed = project.run("sweep.py", *flags, "--wait")
        assert followed.returncode == 0, followed.stderr
        assert uninterrupted.wait(400) == 0
    finally:
        uninterrupted.terminate()

    [trial], [plain] = project.trials("preempted"), project.trials("plain")
    assert {jobs(work_dir)[trial.entry.id].detail} == set(NODES) - {node}
    assert trial.record is not None and plain.record is not None
    stopped, last = trial.record.attempts
    assert (stopped["outcome"], last["outcome"]) == ("stopped by SIGUSR2", "finished")
    assert [each["kind"] for each in read_json(trial.folder / STATUS)["requeues"]] == ["stopped"]
    assert trial.record.metrics == plain.record.metrics
    with np.load(trial.folder / CURVE) as mine, np.load(plain.folder / CURVE) as other:
        for name in mine.files:
            np.testing.assert_array_equal(mine[name], other[name])
    mine, other = (
        torch.load(each.folder / WEIGHTS, weights_only=True)["state_dict"]
        for each in (trial, plain)
    )
    assert all(torch.equal(mine[name], other[name]) for name in other)


def test_two_ranks_on_two_nodes_train_one_trial(cluster: SlurmCluster, project: Project) -> None:
    flags = [*sweep("ranks", "one.py", "nodes=2"), "--gpus-per-trial", "2", *SLOW, "--no-report"]
    submitted = project.run("sweep.py", *flags)
    assert submitted.returncode == 0, submitted.stderr
    [trial] = project.trials("ranks")
    wait_for_iteration(cluster, trial, 3)
    task = jobs(project.folder / "work_dirs/ranks")[trial.entry.id]
    assert "NumNodes=2" in cluster.run("scontrol", "show", "job", task.id)
    cluster.run("scancel", "--signal=USR2", task.id)  # both ranks stop after the same iteration
    followed = project.run("sweep.py", *flags, "--wait")
    assert followed.returncode == 0, followed.stderr
    [trial] = project.trials("ranks")
    assert trial.record is not None
    assert trial.record.protocol["processes"] == 2
    assert [each["outcome"] for each in trial.record.attempts] == ["stopped by SIGUSR2", "finished"]
    with np.load(trial.folder / CURVE) as curve:
        np.testing.assert_array_equal(curve["iteration"], np.arange(1, 31))
    with np.load(trial.folder / PREDICTIONS) as found:
        assert len(set(found["image_ids"])) == len(found["image_ids"]) == 100
