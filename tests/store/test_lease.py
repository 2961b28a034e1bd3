"""One owner at a time, and never a lost folder."""

import json
import multiprocessing
import os
import time
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from ablations.store import lease
from ablations.store.lease import LEASE, Lease, LeaseHeldError, lease_owner
from ablations.store.processes import this_process


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


def test_what_killed_claimants_left_is_removed(tmp_path: Path) -> None:
    gone = multiprocessing.get_context("spawn").Process(target=os.getpid)
    gone.start()
    dead = json.dumps({**this_process(), "pid": gone.pid})
    gone.join()
    alive = json.dumps({**this_process(), "token": "another claimant's"})
    for name, owner in (("a", dead), ("claim.b", dead), ("c", alive)):
        (tmp_path / f".{LEASE}.{name}").write_text(owner)
    with Lease(tmp_path):
        assert {path.name for path in tmp_path.iterdir()} == {LEASE, f".{LEASE}.c"}
        (tmp_path / f".{LEASE}.d").write_text(dead)
    assert [path.name for path in tmp_path.iterdir()] == [f".{LEASE}.c"]


def test_an_owner_on_another_machine_counts_until_it_falls_silent(tmp_path: Path) -> None:
    owner = {"host": "other", "boot": "another boot", "pid": os.getpid(), "token": "t"}
    (tmp_path / LEASE).write_text(json.dumps(owner))
    with pytest.raises(LeaseHeldError, match="on other"), Lease(tmp_path):
        pass
    silent = time.time() - lease.TIME_TO_LIVE - 1
    os.utime(tmp_path / LEASE, (silent, silent))
    with Lease(tmp_path):
        assert lease_owner(tmp_path)["host"] != "other"


def _race(folder: str, winners: str, start: Barrier, end: Barrier) -> None:
    start.wait(60)
    try:
        with Lease(Path(folder)):
            Path(winners, str(os.getpid())).touch()
            end.wait(60)  # hold on until everybody has tried
    except LeaseHeldError:
        end.wait(60)


@pytest.mark.parametrize("attempt", range(5))
def test_of_many_claimants_of_a_stale_lease_one_wins(tmp_path: Path, attempt: int) -> None:
    folder, winners = tmp_path / "trial", tmp_path / "winners"
    folder.mkdir()
    winners.mkdir()
    owner = {"host": "gone", "boot": "another boot", "pid": 1, "token": f"old {attempt}"}
    (folder / LEASE).write_text(json.dumps(owner))
    os.utime(folder / LEASE, (0, 0))
    context = multiprocessing.get_context("fork")
    start, end = context.Barrier(12), context.Barrier(12)
    racers = [
        context.Process(target=_race, args=(str(folder), str(winners), start, end))
        for _ in range(12)
    ]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    assert [racer.exitcode for racer in racers] == [0] * 12
    assert len(list(winners.iterdir())) == 1
    assert not list(folder.iterdir())
