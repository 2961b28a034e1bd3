"""Whole sweeps with W&B asked to be online: whatever the server does, the records are the same."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "reporting"))
from wandb_stub import Stub

from ablations.sweep.record import CURVE, read_record

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[2]
GRID = """
blocks = [
    dict(
        points=[dict(gamma=2.0, alpha=0.25)],
        set={
            "model.bbox_head.loss_cls": dict(
                type="ablations.FocalLoss", gamma="$gamma", alpha="$alpha"
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
    assert found_seconds < 2 * seconds + 15  # the machine is shared; W&B itself waits 20 s at most
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
