"""A trial that trains nothing, for tests of the launchers.

Its ``trial.json`` says how many ``steps`` of a tenth of a second it takes and what goes wrong:
``{"raise": message}``, ``{"die": [attempts that are killed at step 3]}``, ``{"deaf": True}`` (it
does not hear signals), ``{"stop": [attempts that stop themselves at step 3]}``, ``{"leave":
[attempts that start a process of their own at step 3, and are killed]}``, ``{"hang": [attempts that
end at step 3 as a trial that made no progress]}``. It counts its steps in
``checkpoint.json`` and the times and places it ran in ``runs.jsonl``. SIGTERM and SIGUSR2 make it
save its step and exit with 130.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from ablations.store.files import read_json, write_json
from ablations.store.lease import Lease
from ablations.store.manifest import Entry, trial_folder
from ablations.store.record import TRIAL, Record, read_record, write_record
from ablations.store.status import STATUS
from ablations.sweep.launchers.launcher import HUNG, Launch

ENTRY_POINT = "tests.helpers.stub_trial:main"
STEP = 0.1


def plan(work_dir: Path, trials: dict[str, dict[str, object]], processes: int = 1) -> Launch:
    """A launch of stub trials; each value goes into the ``trial.json`` of its key."""
    entries = [Entry(name, {"name": name}, name, 0) for name in trials]
    for name, behaviour in trials.items():
        folder = trial_folder(work_dir, name)
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / TRIAL, behaviour)
    return Launch(work_dir, entries, ENTRY_POINT, processes)


def main(folder: str) -> None:
    """One attempt."""
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        _meet(Path(folder))
    if os.environ.get("RANK", "0") == "0":
        with Lease(Path(folder)):
            sys.exit(0 if read_record(Path(folder)) else _run(Path(folder)))


def _run(folder: Path) -> int:
    told: list[int] = []
    for number in (signal.SIGTERM, signal.SIGUSR2):
        signal.signal(number, lambda number, _frame: told.append(number))
    asked = read_json(folder / TRIAL)
    status = read_json(folder / STATUS) or {}
    attempts = [*status.get("attempts", []), {"started": time.time()}]
    write_json(
        folder / STATUS, status | {"state": "training", "reason": None, "attempts": attempts}
    )
    saved = folder / "checkpoint.json"
    step = first = read_json(saved) or 0
    began = time.time()
    if "raise" in asked:
        _record(folder, "failed", str(asked["raise"]), step)
        return 1
    while step < asked.get("steps", 1):
        step += 1
        time.sleep(STEP)
        write_json(saved, step)
        if told and not asked.get("deaf"):
            name = signal.Signals(told[0]).name
            now = {"state": "interrupted", "reason": f"stopped by {name}"}
            write_json(folder / STATUS, read_json(folder / STATUS) | now)
            _log(folder, began, first, step)
            return 130
        if step >= 3 and len(attempts) in asked.get("die", []):
            _log(folder, began, first, step)
            os.kill(os.getpid(), signal.SIGKILL)
        if step == 3 and len(attempts) in asked.get("stop", []):
            os.kill(os.getpid(), signal.SIGSTOP)
        if step == 3 and len(attempts) in asked.get("leave", []):
            _log(folder, began, first, step)
            left = subprocess.Popen(["sleep", "300"])
            write_json(folder / "left.json", left.pid)
            os.kill(os.getpid(), signal.SIGKILL)
        if step >= 3 and len(attempts) in asked.get("hang", []):
            hung = {"state": "hung", "reason": "no progress for 120 s after iteration 3"}
            write_json(folder / STATUS, read_json(folder / STATUS) | hung)
            _log(folder, began, first, step)
            os._exit(HUNG)
    _log(folder, began, first, step)
    _record(folder, "finished", None, step)
    return 0


def _record(folder: Path, status: str, reason: str | None, step: int) -> None:
    attempts = read_json(folder / STATUS)["attempts"]
    record = Record(
        trial_id=folder.name,
        sweep="stub",
        point={"name": folder.name},
        label=folder.name,
        seed=0,
        status=status,  # type: ignore[arg-type]
        reason=reason,
        metrics={"AP": float(step)},
        attempts=attempts,
    )
    write_record(folder, record)


def _log(folder: Path, began: float, first: int, last: int) -> None:
    names = ("CUDA_VISIBLE_DEVICES", "SLURMD_NODENAME", "SLURM_JOB_ID")
    run = {name: os.environ.get(name) for name in names}
    run |= {"began": began, "ended": time.time(), "first": first, "last": last}
    with (folder / "runs.jsonl").open("a") as out:
        out.write(json.dumps(run) + "\n")


def runs(folder: Path) -> list[dict[str, object]]:
    """Where and when the trial ran."""
    path = folder / "runs.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def most_at_once(found: list[dict[str, object]]) -> int:
    """How many of these runs overlapped."""
    edges = [(run["began"], 1) for run in found] + [(run["ended"], -1) for run in found]
    level = most = 0
    for _time, step in sorted(edges):  # type: ignore[type-var]
        level += step
        most = max(most, level)
    return most


def _meet(folder: Path) -> None:
    """Every rank connects to rank 0 at the address in its environment."""
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    place = (os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
    hello = {"rank": rank, "local": os.environ["LOCAL_RANK"], "place": place}
    hello |= {"node": os.environ.get("SLURMD_NODENAME")}
    if rank:
        for _ in range(300):
            try:
                with socket.create_connection(place, 5) as line:
                    line.sendall(json.dumps(hello).encode())
                return
            except OSError:
                time.sleep(0.1)
        sys.exit(1)
    with socket.create_server(place) as server:
        server.settimeout(30)
        found = [hello]
        for _ in range(size - 1):
            with server.accept()[0] as line:
                found.append(json.loads(line.recv(4096)))
    write_json(folder / "ranks.json", found)


def refuse(folders: list[Path]) -> list[str]:
    """A check that finds something wrong with every trial."""
    return [f"gamma is -1 in {folder.name}" for folder in folders]
