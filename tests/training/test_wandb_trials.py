"""Whole sweeps with W&B asked to be online: whatever the server does, the records are the same."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "reporting"))
from wandb_stub import Stub

from ablations.reporting.wandb_sync import sync
from ablations.sweep.record import CURVE, read_record

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[2]
GRID = """
blocks = [
    dict(
        points=[dict(gamma=2.0, alpha=0.25)],
        set={
            "model.bbox_head.loss_cls": dict(
                type="ablations.FocalLoss", gamma="$gamma", alpha="$alpha", use_sigmoid=True
            )
        },
    )
]
"""
# What may differ between two runs of one trial: time, memory, and what hashes or holds those.
VOLATILE = {"timings", "peak_memory_bytes", "attempts", "files", "sweep"}


def run_sweep(work_dir: Path, mode: str, environment: dict[str, str]) -> tuple[float, str]:
    """A smoke sweep of one trial; returns its seconds and its output."""
    grid = work_dir.parent / "one.py"
    grid.write_text(GRID)
    command = [sys.executable, "runners/sweep.py", "--grid", str(grid), "--smoke", "--no-report"]
    command += ["--work-dir", str(work_dir), "--wandb", mode, "--workers", "1"]
    clean = {key: value for key, value in os.environ.items() if not key.startswith("WANDB_")}
    start = time.monotonic()
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=REPOSITORY, env=clean | environment
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return time.monotonic() - start, done.stdout


def outcome(work_dir: Path) -> tuple[dict[str, Any], np.ndarray, float]:
    """The trial's record without what may differ, its losses, and its seconds."""
    (folder,) = (work_dir / "trials").iterdir()
    record = read_record(folder)
    assert record is not None
    kept = {key: value for key, value in vars(record).items() if key not in VOLATILE}
    with np.load(folder / CURVE) as curve:
        return kept, curve["loss"], record.timings["wall_s"]


@pytest.fixture(scope="module")
def disabled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    work_dir = tmp_path_factory.mktemp("disabled") / "sweep"
    run_sweep(work_dir, "disabled", {})
    assert not list(work_dir.rglob("*.wandb"))
    return work_dir


@pytest.mark.parametrize(
    "trouble", ["none", "closed", "unavailable", "refusing", "hanging", "dying"]
)
def test_the_record_is_that_of_a_trial_without_wandb(
    tmp_path: Path, disabled: Path, trouble: str
) -> None:
    work_dir = tmp_path / "sweep"
    mode = trouble if trouble in ("unavailable", "refusing", "hanging") else "working"
    with Stub(mode=mode) as stub:
        environment = stub.environment
        if trouble == "closed":
            environment["WANDB_BASE_URL"] = "http://127.0.0.1:9"
        if trouble == "dying":
            stub.dies_after = 2
        _, output = run_sweep(work_dir, "online", environment)
    expected, losses, seconds = outcome(disabled)
    found, found_losses, found_seconds = outcome(work_dir)
    assert json.dumps(found, sort_keys=True) == json.dumps(expected, sort_keys=True)
    np.testing.assert_array_equal(found_losses, losses)
    assert found_seconds < 3 * seconds + 60  # generous: the machine may be busy with other things
    (run_id,) = [f"sweep-{folder.name}" for folder in (work_dir / "trials").iterdir()]
    if trouble == "none":
        assert [row["iteration"] for row in stub.runs[run_id].rows] == [10, 20, 30]
        assert stub.runs[run_id].summary["AP"] == found["metrics"]["AP"]
        assert "to send" not in output
    else:
        assert f"report.py {work_dir} --wandb sends them" in output
    assert sorted(path.name for path in work_dir.glob("trials/*/wandb/offline-run-*/*.wandb")) == [
        f"run-{run_id}.wandb"
    ]


def test_a_killed_trial_goes_on_in_the_same_run_and_loses_no_row(tmp_path: Path) -> None:
    work_dir = tmp_path / "sweep"
    checkpoints = "custom_hooks.4={'type': 'ResumableCheckpointHook', 'interval': 5}"
    grid = tmp_path / "one.py"
    grid.write_text(GRID)
    command = [sys.executable, "runners/sweep.py", "--grid", str(grid), "--no-report", "--smoke"]
    command += ["--work-dir", str(work_dir), "--workers", "1", "--cfg-options", checkpoints]
    clean = {key: value for key, value in os.environ.items() if not key.startswith("WANDB_")}
    process = subprocess.Popen(command, cwd=REPOSITORY, env=clean)
    try:
        deadline = time.monotonic() + 300
        while not list(work_dir.glob("trials/*/checkpoint.pth")):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)
        (folder,) = (work_dir / "trials").iterdir()
        os.kill(json.loads((folder / "lease.json").read_text())["pid"], signal.SIGKILL)
        assert process.wait(400) == 0  # the sweep continues a trial that was killed
    finally:
        process.kill()
    assert len(list(folder.glob("wandb/offline-run-*"))) == 2
    with Stub() as stub:
        for name, value in stub.environment.items():
            os.environ[name] = value
        try:
            outcome_of_sync = sync([work_dir])
        finally:
            for name in stub.environment:
                del os.environ[name]
        assert outcome_of_sync.sent == [f"sweep-{folder.name}"]
        rows = stub.runs[f"sweep-{folder.name}"].rows
    assert [row["iteration"] for row in rows] == [10, 20, 30]
    with np.load(folder / CURVE) as curve:
        means = curve["loss"].reshape(3, 10).mean(1)
    np.testing.assert_allclose([row["train/loss"] for row in rows], means)
