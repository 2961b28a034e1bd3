"""For all tests: one thread, the repository as working directory, the embedded data."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("WANDB_MODE", "offline")

REPOSITORY = Path(__file__).parents[1]
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup it is ignored, as a trial would then
os.chdir(REPOSITORY)  # so that tests can be started from any folder


@pytest.fixture(scope="session")
def digits() -> Path:
    """The embedded data set, built if it is missing."""
    from ablations.data.digits import build

    root = REPOSITORY / "data" / "digits"
    root.parent.mkdir(exist_ok=True)
    with FileLock(root.with_name(".digits.lock")):  # tests may run in several processes
        build(root)
    return root


@pytest.fixture
def sketched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports draw their figures once and coarsely; drawing takes most of a report's time."""
    from ablations.reporting.figures import writer

    def sketch(figure: Any, folder: Path, name: str) -> None:
        figure.set_layout_engine("none")
        figure.savefig(folder / f"{name}.png", dpi=10)
        (folder / f"{name}.svg").touch()

    monkeypatch.setattr(writer, "_write", sketch)
