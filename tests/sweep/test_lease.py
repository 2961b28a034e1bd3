"""One owner at a time, and never a lost folder."""

import json
import multiprocessing
import os
import time
from pathlib import Path

import pytest

from ablations.sweep import lease
from ablations.sweep.lease import LEASE, Lease, LeaseHeldError, lease_owner


def test_a_held_folder_is_refused_and_then_free(tmp_path: Path) -> None:
    with Lease(tmp_path):
        assert lease_owner(tmp_path)["pid"] == os.getpid()
        with (
            pytest.raises(LeaseHeldError, match=f"in use by process {os.getpid()}"),
            Lease(tmp_path),
        ):
            pass
        assert lease_owner(tmp_path) is not None  # the refused one took nothing away
    assert lease_owner(tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def _hold_and_die(folder: str) -> None:
    Lease(Path(folder)).__enter__()
    os._exit(9)


def test_a_dead_owner_on_this_machine_is_succeeded_at_once(tmp_path: Path) -> None:
    child = multiprocessing.get_context("fork").Process(target=_hold_and_die, args=(str(tmp_path),))
    child.start()
    child.join()
    assert (tmp_path / LEASE).exists()
    assert lease_owner(tmp_path) is None
    with Lease(tmp_path):
        assert lease_owner(tmp_path)["pid"] == os.getpid()


def test_an_owner_on_another_machine_counts_until_it_falls_silent(tmp_path: Path) -> None:
    owner = {"host": "other", "boot": "another boot", "pid": os.getpid(), "token": "t"}
    (tmp_path / LEASE).write_text(json.dumps(owner))
    with pytest.raises(LeaseHeldError, match="on other"), Lease(tmp_path):
        pass
    silent = time.time() - lease.TIME_TO_LIVE - 1
    os.utime(tmp_path / LEASE, (silent, silent))
    with Lease(tmp_path):
        assert lease_owner(tmp_path)["host"] != "other"


def _race(folder: str, winners: str) -> None:
    try:
        with Lease(Path(folder)):
            Path(winners, str(os.getpid())).touch()
            time.sleep(0.5)
    except LeaseHeldError:
        pass


def test_of_many_claimants_of_a_stale_lease_one_wins(tmp_path: Path) -> None:
    folder, winners = tmp_path / "trial", tmp_path / "winners"
    folder.mkdir()
    winners.mkdir()
    owner = {"host": "gone", "boot": "another boot", "pid": 1, "token": "old"}
    (folder / LEASE).write_text(json.dumps(owner))
    os.utime(folder / LEASE, (0, 0))
    context = multiprocessing.get_context("fork")
    racers = [context.Process(target=_race, args=(str(folder), str(winners))) for _ in range(12)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    assert len(list(winners.iterdir())) == 1
