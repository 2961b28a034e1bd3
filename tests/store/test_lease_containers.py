"""A process id means something within one boot and one container; elsewhere the clock decides."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ablations.store import lease
from ablations.store.lease import (
    LEASE,
    TIME_TO_LIVE,
    Lease,
    LeaseHeldError,
    LeaseLostError,
    check_lease,
    lease_owner,
)
from ablations.store.processes import is_alive, this_process
from tests.helpers.stub_trial import runs

CONTAINER = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
HOLD = """
import sys, time
from pathlib import Path
from ablations.store import lease
lease.RENEW_EVERY = 0.1
with lease.Lease(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""
TRY = """
import sys
from pathlib import Path
from ablations.store import lease
lease.TIME_TO_LIVE = float(sys.argv[2])
try:
    with lease.Lease(Path(sys.argv[1])):
        print("held")
except lease.LeaseHeldError as error:
    print(f"refused: {error}")
"""


@pytest.fixture
def container() -> list[str]:
    """A command that runs another in a process namespace of its own, as a container does."""
    allowed = subprocess.run([*CONTAINER, "true"], capture_output=True, check=False)
    if allowed.returncode:
        pytest.skip(f"unshare is not permitted here: {allowed.stderr.decode().strip()}")
    return [*CONTAINER, sys.executable, "-c"]


@pytest.fixture
def holder(container: list[str], tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A container whose first process, number 1, holds the lease of ``tmp_path``."""
    process = subprocess.Popen([*container, HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.wait()


def attempt(container: list[str], folder: Path, time_to_live: float) -> str:
    """What a second container finds when it asks for the lease."""
    command = [*container, TRY, str(folder), str(time_to_live)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.usefixtures("holder")
def test_of_two_containers_one_holds_the_lease(container: list[str], tmp_path: Path) -> None:
    """Both are process 1, and neither sees the other."""
    assert json.loads((tmp_path / LEASE).read_text())["pid"] == 1
    said = attempt(container, tmp_path, TIME_TO_LIVE)
    assert said.startswith(f"refused: {tmp_path} is in use by process 1 on ")
    time.sleep(1.5)
    assert attempt(container, tmp_path, 1.0).startswith("refused")  # it is renewed
    with pytest.raises(LeaseHeldError, match="in use by process 1"), Lease(tmp_path):
        pass  # nor does the host take it, where another process is number 1


def test_of_two_commands_in_two_containers_one_runs_the_sweep(
    container: list[str], tmp_path: Path
) -> None:
    """Each trial runs once; the other is refused, or finds all done if it was that late."""
    command = [*container[:-1], "-m", "tests.helpers.stub_sweep", str(tmp_path / "sweep")]
    both = [subprocess.Popen(command) for _ in range(2)]
    assert sorted(process.wait(120) for process in both) in ([0, 2], [0, 0])
    folders = sorted((tmp_path / "sweep" / "trials").iterdir())
    assert [len(runs(folder)) for folder in folders] == [1] * 4
    assert not list(tmp_path.rglob("*lease*"))


def test_a_container_that_was_killed_does_not_block_the_next(
    container: list[str], holder: subprocess.Popen[str], tmp_path: Path
) -> None:
    holder.kill()
    holder.wait()
    assert attempt(container, tmp_path, TIME_TO_LIVE).startswith("refused")
    assert "if that process is gone, the folder is free in" in attempt(container, tmp_path, 60.0)
    time.sleep(1.2)
    assert attempt(container, tmp_path, 1.0) == "held"
    assert list(tmp_path.iterdir()) == []


def write(folder: Path, age: float = 0.0, **changes: object) -> None:
    """A lease of this process but for some changes, touched ``age`` seconds ago."""
    (folder / LEASE).write_text(json.dumps({**this_process(), "token": "t", **changes}))
    then = time.time() - age
    os.utime(folder / LEASE, (then, then))


@pytest.mark.parametrize("name", ["host", "boot", "pid_namespace", "started"])
@pytest.mark.parametrize("value", ["another", None])
def test_where_any_part_of_the_identity_differs_the_clock_decides(
    tmp_path: Path, name: str, value: str | None
) -> None:
    write(tmp_path, **{name: value})
    assert lease_owner(tmp_path) is not None
    write(tmp_path, age=TIME_TO_LIVE + 1, **{name: value})
    assert lease_owner(tmp_path) is None
    write(tmp_path, age=-TIME_TO_LIVE - 5, **{name: value})  # a clock was wrong
    assert lease_owner(tmp_path) is None


def test_a_living_owner_of_this_machine_keeps_its_lease_however_silent(tmp_path: Path) -> None:
    write(tmp_path, age=10 * TIME_TO_LIVE)
    assert lease_owner(tmp_path) is not None


def test_a_dead_process_that_nobody_has_waited_for_is_dead() -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    stat = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
    known = {**this_process(), "pid": child.pid, "started": int(stat[19])}
    assert is_alive(known) is True
    child.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it stays a zombie
    assert is_alive(known) is False
    child.wait()
    assert is_alive(known) is False


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[]", b'{"pid": "x"}', b"[" * 9999])
def test_a_damaged_lease_is_somebodys_until_it_is_old(tmp_path: Path, content: bytes) -> None:
    (tmp_path / LEASE).write_bytes(content)
    with pytest.raises(LeaseHeldError, match=r"lease.json is damaged"), Lease(tmp_path):
        pass
    os.utime(tmp_path / LEASE, (0, 0))
    assert lease_owner(tmp_path) is None
    with Lease(tmp_path):
        assert lease_owner(tmp_path)["pid"] == os.getpid()
    assert list(tmp_path.iterdir()) == []


def test_an_owner_that_lost_its_lease_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "RENEW_EVERY", 0.05)
    told: list[bool] = []
    other = json.dumps({"host": "elsewhere", "pid": 7, "token": "other"})
    taken = pytest.raises(LeaseLostError, match="process 7 on elsewhere has taken it over")
    with taken, Lease(tmp_path, on_lost=lambda: told.append(True)):
        check_lease(tmp_path)
        (tmp_path / "draft").write_text(other)
        (tmp_path / "draft").replace(tmp_path / LEASE)
        with pytest.raises(LeaseLostError):
            check_lease(tmp_path)
        deadline = time.monotonic() + 10
        while not told and time.monotonic() < deadline:
            time.sleep(0.01)
    assert told == [True]
    assert (tmp_path / LEASE).read_text() == other  # it is not this process's to remove


def test_a_file_system_without_hard_links_will_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_paths: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    with Lease(tmp_path), pytest.raises(LeaseHeldError), Lease(tmp_path):
        pass
    write(tmp_path, age=TIME_TO_LIVE + 1, boot="another")
    with Lease(tmp_path):
        assert json.loads((tmp_path / LEASE).read_text())["boot"] != "another"
    assert list(tmp_path.iterdir()) == []
