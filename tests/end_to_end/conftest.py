"""A sweep small enough for a test: the embedded detector on a few of the embedded images."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ablations.commands.sweep import main
from tests.helpers.in_process import InProcess

REPOSITORY = Path(__file__).parents[2]
SWEEP = REPOSITORY / "runners" / "sweep.py"

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


def write_tiny(folder: Path, digits: Path) -> None:
    """Write ``config.py`` and ``grid.py``."""
    (folder / "config.py").write_text(CONFIG.format(repository=REPOSITORY, data=digits))
    (folder / "grid.py").write_text(GRID)


@pytest.fixture
def tiny(tmp_path: Path, digits: Path) -> Path:
    """A folder with ``config.py`` and ``grid.py``; commands run there."""
    write_tiny(tmp_path, digits)
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
def sweep_command(tiny: Path, environment: dict[str, str]) -> Run:
    """Run ``runners/sweep.py`` with some flags in the tiny folder, as it is typed."""

    def run(*flags: str, timeout: float = 300) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, str(SWEEP), *flags],
            cwd=tiny,
            env=environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    return run


@pytest.fixture(scope="package")
def in_process() -> Iterator[InProcess]:
    """Runs commands without a process of their own."""
    found = InProcess()
    yield found
    found.close()


@pytest.fixture
def sweep(tiny: Path, in_process: InProcess) -> Run:
    """The same without a process of its own, which saves most of its time."""
    return lambda *flags: in_process.run(main, SWEEP, flags, tiny)


@pytest.fixture(scope="package")
def trained_once(
    tmp_path_factory: pytest.TempPathFactory, digits: Path, in_process: InProcess
) -> Path:
    """The tiny sweep's work directory after its trials."""
    folder = tmp_path_factory.mktemp("trained")
    write_tiny(folder, digits)
    flags = ("--grid", "grid.py", "--config", "config.py", "--work-dir", "work", "--no-report")
    done = in_process.run(main, SWEEP, flags, folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "work"


@pytest.fixture
def trained(tiny: Path, trained_once: Path) -> Path:
    """The tiny folder with ``work``, whose trials have finished."""
    shutil.copytree(trained_once, tiny / "work")
    return tiny
