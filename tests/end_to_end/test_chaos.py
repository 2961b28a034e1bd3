"""The chaos suite's short tier: ten kills. ``make chaos`` is the long one, with figures."""

import os
import random
import sys
from pathlib import Path

import pytest

from benchmarks.chaos import TARGETS, Storm, storm

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(400)]

SEED = int(os.environ.get("CHAOS_SEED") or random.SystemRandom().randrange(10**6))


def test_a_sweep_survives_ten_kills(tmp_path: Path, digits: Path) -> None:
    """Also SIGTERM and SIGSTOP. Every record equals the undisturbed sweep's; nothing is left."""
    print(f"CHAOS_SEED={SEED} draws the same faults")
    found, _ = storm(tmp_path, kills=10, minutes=0, seed=SEED, seeds=1)
    assert found.kills >= 10


def test_the_launcher_survives_ten_kills(tmp_path: Path) -> None:
    """The same with trials that train nothing, so most faults hit the launcher."""
    print(f"CHAOS_SEED={SEED} draws the same faults")
    command = [sys.executable, "-m", "tests.helpers.stub_sweep", "sweep"]
    root = str(Path(__file__).parents[2])
    kinds = [kind for kind in TARGETS if kind != "loader"]
    found = Storm(command, "sweep", SEED, {"PYTHONPATH": root, "CUDA_VISIBLE_DEVICES": ""}, kinds)
    found.run(tmp_path, kills=10, minutes=0)
    assert found.kills >= 10
