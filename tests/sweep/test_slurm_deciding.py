"""A sequential sweep on a real Slurm: each round submits the next, also after a preemption."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ablations.analysis.decisions import decide, outcomes, read_design
from ablations.store.files import read_json, write_json
from ablations.store.states import sweep_states
from ablations.store.status import STATUS
from ablations.sweep.launchers.slurm.queue import jobs, submissions
from tests.helpers.decided_trial import GRID
from tests.helpers.slurm_cluster import SlurmCluster

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
FLAGS = (
    *("--grid", "grid.py", "--work-dir", "work", "--no-report", "--wandb", "disabled"),
    *("--decide", "best", "--margin", "0.01", "--max-seeds", "3", "--only", "loss=CE", "loss=FL"),
    *("--launcher", "slurm", "--slurm", "time=60", "gpus_per_process=0"),
)


def sweep(folder: Path, *flags: str) -> str:
    """Run the command with trials that train nothing; returns what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.helpers.decided_trial", *FLAGS, *flags],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_rounds_follow_each_other_and_a_preempted_trial_holds_its_round(
    cluster: SlurmCluster, tmp_path: Path
) -> None:
    work = tmp_path / "work"
    (tmp_path / "grid.py").write_text(GRID)
    write_json(tmp_path / "fates.json", {"effects": {"FL": 3.0}, "steps": 5000})
    out = sweep(tmp_path)
    assert "submitted 4 trials as Slurm job" in out
    assert "goes on with the next round when they have ended" in out

    states = sweep_states(work)[1]
    saved = [state.folder / "checkpoint.json" for state in states]
    cluster.wait_for(lambda: any((read_json(path) or 0) >= 2 for path in saved), 300)
    running = next(s for s, path in zip(states, saved, strict=True) if (read_json(path) or 0) >= 2)
    node = jobs(work)[running.entry.id].detail
    urgent = ("sbatch", "-p", "high", "-w", node, "-c", "4", "-o", "/dev/null")
    cluster.run(*urgent, "--wrap", "sleep 2")

    cluster.wait_for(lambda: "requeues" in (read_json(running.folder / STATUS) or {}), 300)
    assert len(submissions(work)) == 1
    write_json(tmp_path / "fates.json", {"effects": {"FL": 3.0}, "steps": 1})

    cluster.wait_for(lambda: len(submissions(work)) == 2, 300)  # no command of ours
    manifest, states = sweep_states(work)
    assert all(state.record is not None for state in states if state.entry.seed < 2)
    kinds = {requeue["kind"] for requeue in read_json(running.folder / STATUS)["requeues"]}
    assert kinds == {"stopped"}
    assert submissions(work)[1].trials == [s.entry.id for s in states if s.entry.seed == 2]

    cluster.wait_for(lambda: not cluster.jobs(), 300)
    manifest, states = sweep_states(work)
    assert len(submissions(work)) == 2 and len(states) == 6
    assert {state.state for state in states} == {"finished"}
    assert len(manifest.commands) == 1
    assert manifest.decide is not None
    decided = decide(read_design(manifest.decide), outcomes(states))
    assert len(decided.past) == 2 and not decided.todo
    assert sweep(tmp_path).count("over: ") == 1  # nothing is left to submit


def test_a_round_that_nobody_will_finish_is_not_submitted_again(
    cluster: SlurmCluster, tmp_path: Path
) -> None:
    (tmp_path / "grid.py").write_text(GRID)
    write_json(tmp_path / "fates.json", {"steps": 5000})
    sweep(tmp_path)
    work = tmp_path / "work"
    cluster.wait_for(lambda: any(job.state == "RUNNING" for job in jobs(work).values()), 300)
    cluster.run("scancel", submissions(work)[0].job)
    cluster.wait_for(lambda: not cluster.jobs(), 300)
    assert len(submissions(work)) == 1
