"""The local launcher: a pool of processes, one trial each.

On a CPU a trial gets one thread: several trials side by side are faster than one trial with several
threads. With GPUs a trial gets ``gpus_per_trial`` of them. Trials are forked from the fork server.
"""

import contextlib
import multiprocessing
import os
import signal
import time
from collections import deque
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess

from ablations.machine import cpu_cores, free_port, visible_gpus
from ablations.store.manifest import Entry, trial_folder
from ablations.store.states import StateReader, trial_state
from ablations.sweep.launchers.fork_server import fork_server
from ablations.sweep.launchers.fork_server_start import end_with_parent
from ablations.sweep.launchers.launcher import (
    MAX_ATTEMPTS,
    Launch,
    Watch,
    call_entry_point,
    record_death,
)

STOP_TIMEOUT = 60.0  # seconds a trial gets to write its checkpoint
_POLL = 1.0


def default_workers(gpus_per_trial: int) -> int:
    """How many trials fit at a time: by GPUs, or by cores if there are none."""
    gpus = visible_gpus()
    return max(1, (len(gpus) or cpu_cores()) // gpus_per_trial)


def _process(entry_point: str, folder: str, environment: dict[str, str]) -> None:
    """Runs in the forked process: one process of a trial. The launcher handles Ctrl-C."""
    end_with_parent()
    os.environ.update(environment)
    call_entry_point(entry_point, folder)


@dataclass
class _Running:
    entry: Entry
    slot: int
    processes: list[BaseProcess] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """0 if all processes exited with 0, else one of the others; a signal (negative) first."""
        codes = sorted(process.exitcode or 0 for process in self.processes)
        return next((code for code in codes if code), 0)


class LocalLauncher:
    """A pool of ``workers`` trials at a time on this machine."""

    trains_here = True

    def __init__(self, workers: int) -> None:
        self.workers = workers

    def run(self, launch: Launch, watch: Watch) -> None:
        """Run the trials to their end.

        Raises:
            KeyboardInterrupt: on Ctrl-C or SIGTERM, after every trial has saved its state.
        """
        context = fork_server([launch.entry_point.split(":")[0]], launch.preload)
        gpus = visible_gpus()
        waiting = deque(launch.entries)
        reader = StateReader(launch.work_dir, launch.entries)
        attempts: dict[str, int] = {}
        running: list[_Running] = []
        free = list(range(self.workers))
        previous = signal.signal(signal.SIGTERM, _interrupt)
        try:
            while waiting or running:
                for _ in range(len(waiting) if free else 0):
                    entry = waiting.popleft()
                    if trial_state(launch.work_dir, entry).state == "running":
                        waiting.append(entry)  # another command runs it; look again later
                        continue
                    attempts[entry.id] = attempts.get(entry.id, 0) + 1
                    running.append(self._start(context, launch, entry, free.pop(), gpus))
                    if not free:
                        break
                sentinels = [process.sentinel for trial in running for process in trial.processes]
                if sentinels:
                    wait(sentinels, timeout=_POLL)
                else:
                    time.sleep(_POLL)
                for trial in [trial for trial in running if _ended(trial)]:
                    running.remove(trial)
                    free.append(trial.slot)
                    state = record_death(launch.work_dir, trial.entry, trial.exit_code)
                    again = state.state == "interrupted" and trial.exit_code != 130
                    if again and attempts[trial.entry.id] < MAX_ATTEMPTS:
                        waiting.append(trial.entry)
                watch(reader.read())
        except BaseException:
            _stop(running)
            raise
        finally:
            signal.signal(signal.SIGTERM, previous)
            watch(reader.read())

    def hand_over(self, launch: Launch) -> str | None:
        """``None``: this machine has no queue."""
        return None

    def _start(
        self,
        context: "multiprocessing.context.ForkServerContext",
        launch: Launch,
        entry: Entry,
        slot: int,
        gpus: list[str],
    ) -> _Running:
        ranks, port = launch.gpus_per_trial, free_port()
        trial = _Running(entry, slot)
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
            folder = str(trial_folder(launch.work_dir, entry.id))
            process = context.Process(
                target=_process, args=(launch.entry_point, folder, environment)
            )
            process.start()
            trial.processes.append(process)
        return trial


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


def _ended(trial: _Running) -> bool:
    alive = [process for process in trial.processes if process.is_alive()]
    if alive and any(process.exitcode for process in trial.processes):
        # One process of the trial died. The others would wait for it forever: end them.
        for process in alive:
            process.join(5)
            process.terminate()
            process.join(STOP_TIMEOUT)
            process.kill()
    return not alive


def _stop(running: list[_Running]) -> None:
    """Let every trial save its state; a second Ctrl-C kills them."""
    processes = [process for trial in running for process in trial.processes]
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
    deadline = time.monotonic() + STOP_TIMEOUT
    try:
        for process in processes:
            process.join(max(0.0, deadline - time.monotonic()))
    finally:
        for process in processes:
            if process.is_alive():
                process.kill()
