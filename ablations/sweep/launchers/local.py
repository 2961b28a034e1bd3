"""The local launcher: a pool of processes, one trial each.

On a CPU a trial gets one thread: several trials side by side are faster than one trial with several
threads. With GPUs a trial gets ``gpus_per_trial`` of them. Trials are forked from the fork server.
"""

import contextlib
import os
import signal
import time
from collections import deque
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from ablations.machine import cpu_cores, free_port, visible_gpus
from ablations.store.lease import LEASE, TIME_TO_LIVE, lease_owner
from ablations.store.manifest import Entry, trial_folder
from ablations.store.processes import is_alive
from ablations.store.states import StateReader, trial_state
from ablations.store.status import read_status
from ablations.store.storage import NO_STORAGE, StorageError, why_not_writable
from ablations.sweep.launchers.fork_server import fork_server, server_id, wake_server
from ablations.sweep.launchers.fork_server_start import begin_process
from ablations.sweep.launchers.launcher import (
    HUNG,
    MAX_ATTEMPTS,
    Launch,
    Watch,
    call_entry_point,
    record_death,
    record_failure,
)
from ablations.sweep.launchers.stopping import stopped_by_signals

STOP_TIMEOUT = 60.0  # seconds a trial gets to write its checkpoint
SILENCE = 3 * TIME_TO_LIVE  # seconds in which a trial that is not stopped touches its lease
_POLL = 1.0


def default_workers(gpus_per_trial: int) -> int:
    """How many trials fit at a time: by GPUs, or by cores if there are none."""
    gpus = visible_gpus()
    return max(1, (len(gpus) or cpu_cores()) // gpus_per_trial)


def _process(server: int, entry_point: str, folder: str, environment: dict[str, str]) -> None:
    """Runs in the forked process: one process of a trial, with a process group of its own."""
    begin_process(server)
    os.setsid()
    os.environ.update(environment)
    call_entry_point(entry_point, folder)


@dataclass
class _Silence:
    """Counts the seconds in which a file was not touched; not those in which this process slept."""

    path: Path
    seconds: float = 0.0
    _touched: int = 0
    _looked: float = field(default_factory=time.monotonic)

    def look(self) -> float:
        now = time.monotonic()
        passed, self._looked = min(now - self._looked, 2 * _POLL), now
        touched = 0
        with contextlib.suppress(OSError):
            touched = self.path.stat().st_mtime_ns
        self.seconds = self.seconds + passed if touched == self._touched else 0.0
        self._touched = touched
        return self.seconds


@dataclass
class _Running:
    entry: Entry
    slot: int
    silence: _Silence
    processes: list[BaseProcess] = field(default_factory=list)
    kills: int = field(default_factory=lambda: _kills_for_memory())
    stuck: bool = False

    @property
    def exit_code(self) -> int:
        """0 if all processes exited with 0, else one of the others; a signal (negative) first. 255
        if nobody knows, because the fork server was killed."""
        if not self.processes:
            return 255
        codes = sorted(process.exitcode or 0 for process in self.processes)
        return next((code for code in codes if code), 0)

    @property
    def why(self) -> str:
        """What is known of a death that came from outside."""
        if self.stuck:
            return f"it did not touch its lease for {SILENCE:.0f} s"
        short = _kills_for_memory() > self.kills and self.exit_code == -signal.SIGKILL
        return "the kernel was short of memory" if short else ""


class LocalLauncher:
    """A pool of ``workers`` trials at a time on this machine."""

    trains_here = True

    def __init__(self, workers: int) -> None:
        self.workers = workers

    def run(self, launch: Launch, watch: Watch) -> None:
        """Run the trials to their end.

        Raises:
            KeyboardInterrupt: on Ctrl-C or SIGTERM, after every trial has saved its state.
            StorageError: a trial could not write its files; the others have been stopped.
        """
        reader = StateReader(launch.work_dir, launch.entries)
        running: list[_Running] = []
        with stopped_by_signals():
            try:
                self._run(launch, watch, reader, running)
            except BaseException:
                _stop(launch, running)
                raise
            finally:
                watch(reader.read())

    def _run(
        self, launch: Launch, watch: Watch, reader: StateReader, running: list[_Running]
    ) -> None:
        gpus = visible_gpus()
        waiting = deque(launch.entries)
        others: dict[str, _Silence] = {}  # trials that other commands run
        attempts: dict[str, int] = {}
        free = list(range(self.workers))
        while waiting or running:
            for _ in range(len(waiting) if free else 0):
                entry = waiting.popleft()
                if trial_state(launch.work_dir, entry).state == "running":
                    waiting.append(entry)  # another command runs it; look again later
                    _wake(launch.work_dir, entry, others)
                    continue
                attempts[entry.id] = attempts.get(entry.id, 0) + 1
                running.append(self._start(launch, entry, free.pop(), gpus))
                if not free:
                    break
            sentinels = [process.sentinel for trial in running for process in trial.processes]
            if sentinels:
                wait(sentinels, timeout=_POLL)
            else:
                time.sleep(_POLL)
            wake_server()
            for trial in [trial for trial in running if _ended(trial)]:
                running.remove(trial)
                free.append(trial.slot)
                if self._again(launch, trial, attempts[trial.entry.id]):
                    waiting.append(trial.entry)
            watch(reader.read())

    def _again(self, launch: Launch, trial: _Running, attempts: int) -> bool:
        """Whether a trial that has ended is to run again in this command.

        Raises:
            StorageError: it could not write its files, and neither could any other.
        """
        if trial.exit_code not in (0, 130):
            folder = trial_folder(launch.work_dir, trial.entry.id)
            why = why_not_writable(folder)
            if why or trial.exit_code == NO_STORAGE:
                said = read_status(folder).get("reason")  # by the trial; there may be room again
                raise StorageError(why or said or f"{folder} could not be written")
        state = record_death(launch.work_dir, trial.entry, trial.exit_code, trial.why)
        if state.state == "running":  # another process has it by now
            return True
        if state.record is not None or state.state == "damaged" or trial.exit_code == 130:
            return False
        if attempts < MAX_ATTEMPTS:
            return True
        if trial.exit_code == HUNG:
            record_failure(launch.work_dir, trial.entry, state.reason or "no progress")
        return False

    def hand_over(self, launch: Launch) -> str | None:
        """``None``: this machine has no queue."""
        return None

    def _start(self, launch: Launch, entry: Entry, slot: int, gpus: list[str]) -> _Running:
        """Start the processes of a trial."""
        ranks, port = launch.gpus_per_trial, free_port()
        folder = trial_folder(launch.work_dir, entry.id)
        trial = _Running(entry, slot, _Silence(folder / LEASE))
        for rank in range(ranks):
            environment = {}
            if gpus:
                mine = [gpus[(slot * ranks + i) % len(gpus)] for i in range(ranks)]
                environment["CUDA_VISIBLE_DEVICES"] = ",".join(mine)
            if ranks > 1:
                environment |= {
                    "RANK": str(rank),
                    "LOCAL_RANK": str(rank),
                    "WORLD_SIZE": str(ranks),
                    "MASTER_ADDR": "127.0.0.1",
                    "MASTER_PORT": str(port),
                }
            context = fork_server([launch.entry_point.split(":")[0]], launch.preload)
            wake_server()
            process = context.Process(
                target=_process,
                args=(server_id(), launch.entry_point, str(folder), environment),
            )
            with contextlib.suppress(OSError, EOFError):  # the fork server was killed just now
                process.start()
                trial.processes.append(process)
        return trial


def _ended(trial: _Running) -> bool:
    alive = [process for process in trial.processes if process.is_alive()]
    if alive and trial.silence.look() > SILENCE:
        trial.stuck = True  # stopped by a signal, or stuck where no thread of it can run
        for process in alive:
            process.kill()
    if alive and any(process.exitcode for process in trial.processes):
        # One process of the trial died. The others would wait for it forever: end them.
        for process in alive:
            process.join(5)
            process.terminate()
            process.join(STOP_TIMEOUT)
            process.kill()
    if not alive:
        _end_orphans(trial)
    return not alive


def _end_orphans(trial: _Running) -> None:
    """End what a process that died has left behind: the processes that it had started itself."""
    for process in trial.processes:
        died = process.exitcode is not None and (process.exitcode < 0 or process.exitcode == HUNG)
        if died and process.pid:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)


def _stop(launch: Launch, running: list[_Running]) -> None:
    """Let every trial save its state; a second Ctrl-C kills them."""
    processes = [process for trial in running for process in trial.processes]
    deadline = time.monotonic() + STOP_TIMEOUT
    try:
        while (alive := [p for p in processes if p.is_alive()]) and time.monotonic() < deadline:
            wake_server()
            for process in alive:
                # Again and again: a process that has just been forked does not listen yet.
                with contextlib.suppress(ProcessLookupError):
                    process.terminate()
                    os.kill(process.pid or 0, signal.SIGCONT)
            wait([process.sentinel for process in alive], timeout=_POLL)
    finally:
        for process in processes:
            if process.is_alive():
                process.kill()
                process.join(_POLL)
        for trial in running:
            with contextlib.suppress(OSError):  # the disk may be full
                record_death(launch.work_dir, trial.entry, trial.exit_code)


def _wake(work_dir: Path, entry: Entry, others: dict[str, _Silence]) -> None:
    """Let a trial of an earlier command go on if it was stopped: it keeps its lease and waits.

    When the earlier command was killed, the trial was told to stop, but a stopped process does not
    hear that.
    """
    folder = trial_folder(work_dir, entry.id)
    silence = others.setdefault(entry.id, _Silence(folder / LEASE))
    owner = lease_owner(folder)
    if silence.look() > TIME_TO_LIVE and owner is not None and is_alive(owner):
        silence.seconds = 0.0
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(owner["pid"], signal.SIGCONT)


def _kills_for_memory() -> int:
    """How many processes the kernel has killed for want of memory."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int(Path("/proc/vmstat").read_text().split("oom_kill ")[1].split()[0])
    return 0
