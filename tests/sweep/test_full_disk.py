"""A disk that is full, read-only or forbidden: one line, whole files, and the same command goes on.

The trials are stubs, which need no torch; ``tests/end_to_end/test_full_disk.py`` trains.
"""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ablations import machine
from ablations.commands import status, sweep
from ablations.store.arrays import write_arrays
from ablations.store.files import write_json
from ablations.store.lease import Lease
from ablations.store.states import sweep_states
from ablations.store.storage import StorageError, described, trouble, why_not_writable
from ablations.sweep.entry_points import EntryPoints
from ablations.sweep.launchers.local import LocalLauncher
from tests.helpers.small_disk import SmallDisk, small_disk
from tests.helpers.stub_trial import ENTRY_POINT, plan

GRID = """
blocks = [dict(product=dict(gamma=[0, 1, 2]), set={
    "model.bbox_head.loss_cls": dict(type="ablations.FocalLoss", gamma="$gamma")})]
"""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk", "1m") as found:
        yield found


@pytest.fixture
def command(
    disk: SmallDisk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[list[str]]:
    """The flags of a sweep of three stub trials in a folder on the small disk."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("WANDB_MODE", "disabled")
    stub = EntryPoints(ENTRY_POINT, "", "", "", "", "os:fspath", "os:getpid")
    monkeypatch.setattr(sweep, "TRAINING", stub)
    (tmp_path / "val.json").write_text("{}")
    part = {"file": str(tmp_path / "val.json"), "annotations": "0"}
    checked = {"notes": [], "data": {"train": part, "val": part}}
    monkeypatch.setattr(sweep, "preflight", lambda *_: checked)
    (tmp_path / "grid.py").write_text(GRID)
    work_dir = str(disk.path / "work")
    yield [
        *("--grid", str(tmp_path / "grid.py"), "--work-dir", work_dir, "--workers", "2"),
        *("--no-report", "--wandb", "disabled"),
    ]


def one_line(capsys: pytest.CaptureFixture, *words: str) -> None:
    """What was printed to standard error since the last look is one line with these words."""
    [line] = capsys.readouterr().err.splitlines()
    for word in words:
        assert word in line


def whole_files(folder: Path) -> None:
    """Every file that a reader would read is whole."""
    for path in folder.rglob("*.json"):
        if not path.name.startswith("."):
            json.loads(path.read_text())


def finishes(command: list[str], disk: SmallDisk) -> None:
    assert sweep.main(command) == 0
    states = sweep_states(disk.path / "work")[1]
    assert [state.state for state in states] == ["finished"] * 3


def test_a_disk_that_is_full_before_the_start(
    disk: SmallDisk, command: list[str], capsys: pytest.CaptureFixture
) -> None:
    for left in (0, 4096, 16384, 65536):  # it fills up a little later each time
        ballast = disk.fill(left)
        assert sweep.main(command) in (1, 2)
        one_line(capsys, "No space left on device", "once that is mended, the same command")
        whole_files(disk.path)
        ballast.unlink()
    finishes(command, disk)


def test_a_disk_that_fills_up_while_trials_run(
    disk: SmallDisk, command: list[str], capsys: pytest.CaptureFixture
) -> None:
    launch = LocalLauncher.run

    def full(self: LocalLauncher, *arguments: object) -> None:
        disk.fill()
        launch(self, *arguments)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LocalLauncher, "run", full)
        assert sweep.main(command) == 1
    one_line(capsys, "No space left on device")
    whole_files(disk.path)
    states = sweep_states(disk.path / "work")[1]
    assert not any(state.record for state in states)  # a full disk is no result
    assert status.main([str(disk.path / "work")]) == 1
    (disk.path / "ballast").unlink()
    capsys.readouterr()
    finishes(command, disk)


def test_a_disk_that_becomes_read_only(
    disk: SmallDisk, command: list[str], capsys: pytest.CaptureFixture
) -> None:
    disk.remount("ro")
    assert sweep.main(command) == 2
    one_line(capsys, "Read-only file system")
    disk.remount("rw")
    finishes(command, disk)
    disk.remount("ro")
    assert status.main([str(disk.path / "work")]) == 0
    capsys.readouterr()
    assert sweep.main(command) == 2
    one_line(capsys, "Read-only file system")


def test_an_outcome_of_a_trial_is_not_blamed_on_the_disk(tmp_path: Path) -> None:
    job = plan(tmp_path / "sweep", {"raises": {"raise": "ValueError: no"}, "well": {}})
    LocalLauncher(1).run(job, lambda states: None)
    assert [state.state for state in job.states()] == ["failed", "finished"]


def test_the_others_are_stopped_and_keep_their_steps(disk: SmallDisk) -> None:
    job = plan(disk.path / "sweep", {"one": {"steps": 100}, "two": {"steps": 100}})

    def watch(states: object) -> None:
        if not (disk.path / "ballast").exists():
            disk.fill()

    with pytest.raises(StorageError, match="No space left on device"):
        LocalLauncher(2).run(job, watch)
    whole_files(disk.path)
    (disk.path / "ballast").unlink()
    for state in job.states():
        write_json(state.folder / "trial.json", {"steps": 1})
    LocalLauncher(2).run(job, lambda states: None)
    assert [state.state for state in job.states()] == ["finished", "finished"]


def test_what_cannot_be_written_leaves_what_was_there(disk: SmallDisk) -> None:
    write_json(disk.path / "value.json", 1)
    write_arrays(disk.path / "arrays.npz", a=[1])
    before = {path.name: path.read_bytes() for path in disk.path.iterdir()}
    disk.fill()
    big = list(range(100_000))
    with pytest.raises(OSError, match="No space left"):
        write_json(disk.path / "value.json", big)
    with pytest.raises(OSError, match="No space left"):
        write_arrays(disk.path / "arrays.npz", a=os.urandom(500_000))
    with pytest.raises(OSError, match="No space left"), Lease(disk.path / "leased"):
        pass
    (disk.path / "ballast").unlink()
    assert {p.name: p.read_bytes() for p in disk.path.iterdir() if p.is_file()} == before


def test_which_errors_are_the_disks(tmp_path: Path) -> None:
    assert why_not_writable(tmp_path) == "" and list(tmp_path.iterdir()) == []
    assert "No such file or directory" in why_not_writable(tmp_path / "gone")
    quota = OSError(errno.EDQUOT, os.strerror(errno.EDQUOT), "x/checkpoint.pth")
    assert trouble(quota, tmp_path) == "Disk quota exceeded: 'x/checkpoint.pth'"
    try:
        raise RuntimeError("PytorchStreamWriter failed writing file data/3") from quota
    except RuntimeError as error:
        assert "Disk quota exceeded" in trouble(error, tmp_path)
    assert trouble(ValueError("no"), tmp_path) == ""
    assert trouble(FileNotFoundError(errno.ENOENT, "No such file", "image.jpg"), tmp_path) == ""
    assert described(OSError("no room")) == "no room"


FORBIDDEN = """
import ctypes, os, sys
if not os.getuid():  # root may write anywhere: give up all its privileges, as capset(2) does
    header, none = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert ctypes.CDLL(None, use_errno=True).capset(header, none) == 0
from ablations.commands import sweep
sys.argv[0] = "sweep.py"
sys.exit(sweep.main(["--grid", "gamma_alpha", "--wandb", "disabled", "--work-dir", sys.argv[1]]))
"""


def test_a_folder_that_may_not_be_written(tmp_path: Path) -> None:
    (tmp_path / "forbidden").mkdir(mode=0o555)
    work_dir = tmp_path / "forbidden" / "work"
    run = [sys.executable, "-c", FORBIDDEN, str(work_dir)]
    done = subprocess.run(run, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert "Permission denied" in line and str(work_dir) in line


LONG = """
import multiprocessing, os, sys, tempfile
from ablations.sweep.launchers.fork_server import fork_server
if __name__ == "__main__":
    context = fork_server([])
    process = context.Process(target=os.listdir, args=("/",))
    process.start()
    process.join()
    print(process.exitcode, tempfile.gettempdir())
"""


@pytest.mark.parametrize("length", [20, 85, 200])
def test_a_temporary_folder_may_have_a_long_name(tmp_path: Path, length: int) -> None:
    """The kernel takes a socket's path of 107 bytes."""
    folder = Path("/tmp", f"a{os.getpid()}".ljust(length - 5, "x"))
    folder.mkdir()
    try:
        script = tmp_path / "script.py"
        script.write_text(LONG)
        done = subprocess.run(
            [sys.executable, str(script)],
            env=os.environ | {"TMPDIR": str(folder), "PYTHONPATH": str(Path.cwd())},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stdout.split() == ["0", str(folder)], done.stderr
        assert list(folder.iterdir()) == []  # nothing is left
    finally:
        for path in folder.iterdir():
            path.rmdir()
        folder.rmdir()


def test_the_limit_of_a_sockets_path_is_counted_right() -> None:
    assert machine._SOCKET_FOLDER == 107 - 32
