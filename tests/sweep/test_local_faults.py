"""What the local launcher does about trials that hang, stop, leave processes behind or lose their
fork server, and about the signals that reach all processes at once."""

import contextlib
import fcntl
import os
import pty
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

from ablations.commands.sweep import TRAINING
from ablations.store.files import read_json, write_json
from ablations.store.lease import lease_owner
from ablations.store.manifest import trial_folder
from ablations.store.record import TRIAL
from ablations.store.status import read_status
from ablations.sweep import preflight
from ablations.sweep.errors import UsageError
from ablations.sweep.launchers import local
from ablations.sweep.launchers.fork_server import server_id
from ablations.sweep.launchers.launcher import MAX_ATTEMPTS
from ablations.sweep.launchers.local import LocalLauncher
from tests.helpers.stub_sweep import STEPS
from tests.helpers.stub_trial import plan, runs
from tests.sweep.test_reuse import request

PLANNED = {"sweep": "s", "point": {}, "label": "l", "seed": 0, "loss": {}, "data": {}}


@pytest.fixture(autouse=True)
def no_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


def test_a_trial_that_hangs_each_time_has_failed_with_its_reason(tmp_path: Path) -> None:
    every = list(range(1, MAX_ATTEMPTS + 1))
    job = plan(
        tmp_path,
        {
            "always": {"steps": 5, "hang": every, "id": "always", **PLANNED},
            "once": {"steps": 5, "hang": [1]},
            "well": {"steps": 5},
        },
    )
    for entry in job.entries:
        (trial_folder(tmp_path, entry.id) / "config.py").touch()
    LocalLauncher(2).run(job, lambda states: None)
    states = {state.entry.id: state for state in job.states()}
    assert {name: state.state for name, state in states.items()} == {
        **{"always": "failed", "once": "finished", "well": "finished"}
    }
    assert states["always"].reason == "no progress for 120 s after iteration 3"
    assert len(runs(states["always"].folder)) == MAX_ATTEMPTS
    assert not list(tmp_path.rglob("*lease*"))


@pytest.mark.chaos
def test_a_trial_that_is_stopped_for_too_long_is_killed_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "SILENCE", 8.0)
    job = plan(tmp_path, {"stops": {"steps": 5, "stop": [1]}})
    reasons = set()

    def watch(states) -> None:
        reasons.update(state.reason for state in states if state.reason)

    LocalLauncher(1).run(job, watch)
    (state,) = job.states()
    assert state.state == "finished"
    assert len(state.record.attempts) == 2
    assert not reasons or reasons == {"killed by SIGKILL: it did not touch its lease for 8 s"}


def test_what_a_trial_that_died_has_started_ends_with_it(tmp_path: Path) -> None:
    job = plan(tmp_path, {"leaves": {"steps": 5, "leave": [1]}})
    LocalLauncher(1).run(job, lambda states: None)
    (state,) = job.states()
    assert state.state == "finished"
    left = read_json(state.folder / "left.json")
    assert not psutil.pid_exists(left) or psutil.Process(left).status() == "zombie"


def test_the_fork_servers_death_costs_a_trial_nothing_but_a_start(tmp_path: Path) -> None:
    job = plan(tmp_path, {"one": {"steps": 30}, "two": {"steps": 30}})
    killed: list[int] = []

    def watch(states) -> None:
        if not killed and any(state.state == "running" for state in states):
            killed.append(server_id())
            os.kill(killed[0], signal.SIGKILL)

    LocalLauncher(2).run(job, watch)
    assert killed and server_id() != killed[0]
    assert {state.state for state in job.states()} == {"finished"}
    for state in job.states():
        saved = runs(state.folder)  # it saved its state and went on from there
        assert all(a["last"] == b["first"] for a, b in pairwise(saved))


Start = Callable[..., subprocess.Popen]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a sweep of stub trials, and end what is left of it."""
    started: list[subprocess.Popen] = []

    def begin(steps: int = STEPS, **options: object) -> subprocess.Popen:
        code = (
            "import sys; from ablations.store import lease; from tests.helpers import stub_sweep; "
            f"lease.RENEW_EVERY = 0.2; stub_sweep.STEPS = {steps}; sys.exit(stub_sweep.main())"
        )
        command = [sys.executable, "-c", code, str(tmp_path / "sweep")]
        started.append(subprocess.Popen(command, **options))  # type: ignore[call-overload]
        deadline = time.monotonic() + 120
        while len(list(tmp_path.glob("sweep/trials/*/checkpoint.json"))) < 2:
            assert started[-1].poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.wait()


def check_saved(work_dir: Path, how: str, steps: int = STEPS) -> None:
    """Two trials were at work: both have saved their state, and nobody holds a lease."""
    begun = [folder for folder in (work_dir / "trials").iterdir() if read_status(folder)]
    assert len(begun) == 2
    for folder in begun:
        status = read_status(folder)
        assert (status["state"], status["reason"]) == ("interrupted", f"stopped by {how}")
        assert 0 < read_json(folder / "checkpoint.json") < steps
    assert not list(work_dir.rglob("*lease*"))


def test_a_command_whose_sweep_was_taken_over_stops_its_trials(
    tmp_path: Path, start: Start
) -> None:
    """As after a suspension, in which another container has taken it."""
    process = start(steps=300)
    lease = tmp_path / "sweep" / "lease.json"
    write_json(tmp_path / "draft", {"host": "elsewhere", "pid": 7, "token": "other"})
    (tmp_path / "draft").replace(lease)
    assert process.wait(60) == 1
    lease.unlink()
    check_saved(tmp_path / "sweep", "SIGTERM", 300)


@pytest.mark.parametrize("times", [1, 3])
def test_sigterm_to_every_process_lets_the_trials_save_their_state(
    tmp_path: Path, start: Start, times: int
) -> None:
    """As a batch system, a container's stop and a shell do; some send it again."""
    process = start(start_new_session=True)
    everybody = [process.pid, *(p.pid for p in psutil.Process(process.pid).children(True))]
    for _ in range(times):
        for pid in everybody:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
    assert process.wait(60) == 130
    check_saved(tmp_path / "sweep", "SIGTERM")


def at_terminal(its: int) -> None:
    """Make it this process's controlling terminal; ``os.login_tty`` came with Python 3.11."""
    os.setsid()
    fcntl.ioctl(its, termios.TIOCSCTTY, 0)


def test_a_closed_terminal_lets_the_trials_save_their_state(tmp_path: Path, start: Start) -> None:
    ours, its = pty.openpty()
    process = start(stdin=its, stdout=its, stderr=its, preexec_fn=lambda: at_terminal(its))
    os.close(its)
    os.close(ours)  # the terminal is gone
    assert process.wait(60) == 130
    check_saved(tmp_path / "sweep", "SIGTERM")


@pytest.mark.chaos
def test_under_nohup_a_closed_terminal_changes_nothing(tmp_path: Path, start: Start) -> None:
    ignore = lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)  # noqa: E731
    process = start(start_new_session=True, preexec_fn=ignore)
    for pid in [process.pid, *(p.pid for p in psutil.Process(process.pid).children(True))]:
        os.kill(pid, signal.SIGHUP)
    assert process.wait(120) == 0


@pytest.mark.chaos
def test_a_stopped_trial_of_a_killed_command_does_not_block_the_next(
    tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = start(start_new_session=True)
    (folder, *_) = [p for p in (tmp_path / "sweep" / "trials").iterdir() if lease_owner(p)]
    owner = lease_owner(folder)
    assert owner is not None
    os.kill(owner["pid"], signal.SIGSTOP)
    process.kill()
    monkeypatch.setattr(local, "TIME_TO_LIVE", 1.0)
    job = plan(tmp_path / "sweep", {folder.name: {"steps": STEPS}})
    write_json(folder / TRIAL, {"steps": STEPS})
    LocalLauncher(1).run(job, lambda states: None)
    assert [state.state for state in job.states()] == ["finished"]


def test_a_check_that_is_killed_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([(None, -signal.SIGKILL), (None, 255), ({"errors": [], "notes": []}, 0)])
    monkeypatch.setattr(preflight, "_ask", lambda *_: next(answers))
    asked = request(tmp_path / "work", [1])
    assert preflight.preflight(asked, TRAINING, share=True)["errors"] == []
    monkeypatch.setattr(preflight, "_ask", lambda *_: (None, -signal.SIGSEGV))
    with pytest.raises(UsageError, match="ended with status -11"):
        preflight.preflight(asked, TRAINING, share=True)
