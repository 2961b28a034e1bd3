"""A sweep that is watched for days: what cannot have changed is not read again, and nothing is
missed."""

import os
import time
from pathlib import Path

import pytest

from ablations.store import states
from ablations.store.files import write_json
from ablations.store.lease import LEASE, Lease
from ablations.store.manifest import Entry, trial_folder
from ablations.store.record import Record, write_record
from ablations.store.states import StateReader, trial_state
from ablations.store.status import STATUS

ENTRIES = [Entry(name, {}, name, 0) for name in ("done", "waits", "absent")]


@pytest.fixture
def work_dir(tmp_path: Path) -> Path:
    for name in ("done", "waits"):
        trial_folder(tmp_path, name).mkdir(parents=True)
    _finish(tmp_path, "done")
    return tmp_path


def _finish(work_dir: Path, name: str) -> None:
    record = Record(name, "sweep", {}, name, 0, "finished")
    write_record(trial_folder(work_dir, name), record)


def _long_ago(folder: Path) -> None:
    """Make a folder look unchanged for a minute."""
    then = time.time() - 60
    os.utime(folder, (then, then))


def test_finished_and_untouched_trials_are_not_read_again(
    work_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _long_ago(trial_folder(work_dir, "waits"))
    reader = StateReader(work_dir, ENTRIES)
    first = reader.read()
    assert [state.state for state in first] == ["finished", "pending", "pending"]
    monkeypatch.setattr(states, "trial_state", lambda *_: pytest.fail("read again"))
    assert reader.read() == first


def test_every_change_is_seen_however_soon_it_comes(work_dir: Path) -> None:
    reader = StateReader(work_dir, ENTRIES)
    folders = [trial_folder(work_dir, name) for name in ("waits", "absent")]
    _long_ago(folders[0])

    def seen() -> list[str]:
        states = reader.read()
        assert states == [trial_state(work_dir, entry) for entry in ENTRIES]
        return [state.state for state in states[1:]]

    assert seen() == ["pending", "pending"]
    for folder in folders:
        with Lease(folder):
            assert seen()[folders.index(folder)] == "running"
            write_json(folder / STATUS, {"iteration": 1})
            seen()
            write_json(folder / STATUS, {"iteration": 2})
            assert reader.read()[1 + folders.index(folder)].progress == {"iteration": 2}
        assert not (folder / LEASE).exists()
        assert seen()[folders.index(folder)] == "interrupted"
        _finish(work_dir, folder.name)
    assert seen() == ["finished", "finished"]
