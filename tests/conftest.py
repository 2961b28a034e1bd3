"""For all tests: one thread, the repository as working directory, the embedded data."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("WANDB_MODE", "offline")

REPOSITORY = Path(__file__).parents[1]
os.chdir(REPOSITORY)  # so that tests can be started from any folder


@pytest.fixture(scope="session")
def digits() -> Path:
    """The embedded data set, built if it is missing."""
    from ablations.data.digits import build

    root = REPOSITORY / "data" / "digits"
    root.parent.mkdir(exist_ok=True)
    build(root)
    return root
