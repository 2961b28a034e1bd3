"""The local launcher: a bounded pool of processes, one trial each.

On a CPU a trial gets one thread (several trials side by side beat one with several threads); with
GPUs it gets ``gpus_per_trial`` of them. Processes are forked from a server that has imported the
heavy packages once and has not touched CUDA.
"""

import contextlib
import ctypes
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess

from ablations.sweep.launcher import MAX_ATTEMPTS, Job, Watch, call, note_death
from ablations.sweep.ledger import Entry, Standings, trial_folder, trial_state
from ablations.sweep.record import CONFIG

STOP_TIMEOUT = 60.0  # seconds a trial gets to write its checkpoint
_POLL = 1.0
_PR_SET_PDEATHSIG = 1

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


def visible_gpus() -> list[str]:
    """Ids of the GPUs this process may use, found without torch."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name for name in named.split(",") if name.strip() and name.strip() != "-1"]
    if shutil.which("nvidia-smi") is None:
        return []
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    count = sum(line.startswith("GPU ") for line in listed.stdout.splitlines())
    return [str(number) for number in range(count)]


def cpu_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0))


def default_workers(gpus_per_trial: int) -> int:
    """As many trials at a time as the GPUs, or else the cores, can take."""
    gpus = visible_gpus()
    return max(1, (len(gpus) or cpu_cores()) // gpus_per_trial)


def free_port() -> int:
    """A TCP port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def fork_server(*preload: str) -> "multiprocessing.context.ForkServerContext":
    """A context whose processes start with the modules ``preload`` already imported.

    There is one server: what it has imported stays as it was at the first process's start.
    """
    for name in _THREADS:
        os.environ.setdefault(name, "1")
    # Keeps torch.cuda.is_available() from initialising CUDA, which a fork would not survive.
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    context = multiprocessing.get_context("forkserver")
    # Every process imports the command's own module again, and what that imports.
    command = sorted(name for name in sys.modules if name.startswith("ablations."))
    context.set_forkserver_preload(["ablations.sweep.server", *command, *preload])
    return context


def _process(entry_point: str, folder: str, environment: dict[str, str]) -> None:
    """The child: end with the pool, leave Ctrl-C to it, and run the trial."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.update(environment)
    call(entry_point, folder)


@dataclass
class _Running:
    entry: Entry
    slot: int
    processes: list[BaseProcess] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """0 if all processes ended well, else the code of one that did not, a signal first."""
        codes = sorted(process.exitcode or 0 for process in self.processes)
        return next((code for code in codes if code), 0)


class LocalLauncher:
    """A pool of ``workers`` trials at a time on this machine."""

    def __init__(self, workers: int) -> None:
        self.workers = workers

    def run(self, job: Job, watch: Watch) -> None:
        """Run the job's trials to their end.

        Raises:
            KeyboardInterrupt: on Ctrl-C or SIGTERM, after every trial has saved its state.
        """
        modules = [job.entry_point.split(":")[0]]
        if job.share_data:
            os.environ["ABLATIONS_SHARE"] = str(
                trial_folder(job.work_dir, job.entries[0].id) / CONFIG
            )
            modules.append("ablations.training.shared_data")
        context = fork_server(*modules)
        gpus = visible_gpus()
        waiting = deque(job.entries)
        standings = Standings(job.work_dir, job.entries)
        attempts: dict[str, int] = {}
        running: list[_Running] = []
        free = list(range(self.workers))
        previous = signal.signal(signal.SIGTERM, _interrupt)
        try:
            while waiting or running:
                for _ in range(len(waiting) if free else 0):
                    entry = waiting.popleft()
                    if trial_state(job.work_dir, entry).state == "running":
                        waiting.append(entry)  # somebody else's; look again later
                        continue
                    attempts[entry.id] = attempts.get(entry.id, 0) + 1
                    running.append(self._start(context, job, entry, free.pop(), gpus))
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
                    state = note_death(job.work_dir, trial.entry, trial.exit_code)
                    again = state.state == "interrupted" and trial.exit_code != 130
                    if again and attempts[trial.entry.id] < MAX_ATTEMPTS:
                        waiting.append(trial.entry)
                watch(standings.read())
        except BaseException:
            _stop(running)
            raise
        finally:
            signal.signal(signal.SIGTERM, previous)
            watch(standings.read())

    def _start(
        self,
        context: "multiprocessing.context.ForkServerContext",
        job: Job,
        entry: Entry,
        slot: int,
        gpus: list[str],
    ) -> _Running:
        ranks, port = job.gpus_per_trial, free_port()
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
            folder = str(trial_folder(job.work_dir, entry.id))
            process = context.Process(target=_process, args=(job.entry_point, folder, environment))
            process.start()
            trial.processes.append(process)
        return trial


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


def _ended(trial: _Running) -> bool:
    alive = [process for process in trial.processes if process.is_alive()]
    if alive and any(process.exitcode for process in trial.processes):  # the others wait in vain
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
