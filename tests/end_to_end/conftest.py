"""A sweep small enough for a test: the embedded detector on a few of the embedded images."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]

CONFIG = """
_base_ = ["{repository}/configs/retinanet_r18_digits.py"]
data_root = "{data}/"
train_dataloader = dict(
    batch_size=4, dataset=dict(dataset=dict(data_root=data_root, indices=32)))
val_dataloader = dict(dataset=dict(data_root=data_root, indices=8))
val_evaluator = dict(ann_file=data_root + "annotations/val.json")
train_cfg = dict(max_iters=12, val_interval=12)
model = dict(test_cfg=dict(score_thr=0.0))  # after twelve iterations no score is high
auto_scale_lr = dict(base_batch_size=4)
"""

GRID = """
title = "two losses"
blocks = [
    dict(points=[dict(loss="CE"), dict(loss="FL")], set={"model.bbox_head.loss_cls": {
        "$by": "loss",
        "CE": dict(type="ablations.CrossEntropyLoss", use_sigmoid=True),
        "FL": dict(type="ablations.FocalLoss", gamma=2.0, alpha=0.25, use_sigmoid=True),
    }})
]
"""

Run = Callable[..., subprocess.CompletedProcess]


@pytest.fixture
def tiny(tmp_path: Path, digits: Path) -> Path:
    """A folder with ``config.py`` and ``grid.py``; commands run there."""
    text = CONFIG.format(repository=REPOSITORY, data=digits)
    (tmp_path / "config.py").write_text(text)
    (tmp_path / "grid.py").write_text(GRID)
    return tmp_path


@pytest.fixture
def environment() -> dict[str, str]:
    """The environment of a command: quiet, one thread, this checkout first."""
    return os.environ | {
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(REPOSITORY),
        "COLUMNS": "200",
    }


@pytest.fixture
def sweep(tiny: Path, environment: dict[str, str]) -> Run:
    """Run ``runners/sweep.py`` with some flags in the tiny folder."""

    def run(*flags: str, timeout: float = 300) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, str(REPOSITORY / "runners" / "sweep.py"), *flags],
            cwd=tiny,
            env=environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    return run
