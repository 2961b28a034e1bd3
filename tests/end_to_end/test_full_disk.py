"""A training whose disk fills up: it ends in one line, and continues when there is room."""

from pathlib import Path

import pytest

from ablations.store.states import sweep_states
from tests.helpers.small_disk import small_disk

FLAGS = ("--grid", "grid.py", "--config", "config.py", "--no-report", "--wandb", "disabled")


@pytest.mark.slow
@pytest.mark.parametrize("size", ["1m", "2m", "3m", "4m"])
def test_a_training_on_a_disk_that_is_too_small_continues_on_a_larger_one(
    sweep_command, tiny: Path, size: str
) -> None:
    with small_disk(tiny / "disk", size) as disk:
        flags = (*FLAGS, "--work-dir", "disk/work", "--workers", "1")
        full = sweep_command(*flags)
        assert full.returncode in (1, 2), full.stdout + full.stderr
        [line] = full.stderr.splitlines()
        assert "No space left on device" in line
        if (disk.path / "work/manifest.json").is_file():
            assert not any(s.state == "failed" for s in sweep_states(disk.path / "work")[1])
        disk.remount("size=64m")
        done = sweep_command(*flags)
        assert done.returncode == 0, done.stdout + done.stderr
        states = sweep_states(disk.path / "work")[1]
        assert [state.state for state in states] == ["finished", "finished"]
