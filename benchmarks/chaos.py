"""Run a small sweep while its processes get signals at random; its records must not change.

    python -m benchmarks.chaos [--kills 100] [--minutes 30] [--seed N]

A sweep is run undisturbed. Then the same sweep is run again and again, and its processes (trials,
their loaders' workers, their groups, the fork server, the controller, all at once) get SIGKILL,
SIGTERM and SIGSTOP. A command that ends is given again. At the end one runs in peace. Every record
and every file that it lists must equal the undisturbed sweep's; no process and no lease is left.
The seed is printed: the same seed draws the same faults, though not at the same instants.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from ablations.store.record import Record, damaged_files, read_record
from benchmarks import reliability

ROOT = Path(__file__).parents[1]
MARK = "ABLATIONS_CHAOS"  # in the environment of all processes of a sweep
PATIENCE = 300.0  # seconds without a fault or an end after which the sweep counts as hung
LAST = 900.0  # seconds that the run in peace may take

CONFIG = """
_base_ = ["{root}/configs/retinanet_r18_digits.py"]
data_root = "{root}/data/digits/"
train_dataloader = dict(
    batch_size=4, num_workers={workers},
    dataset=dict(dataset=dict(data_root=data_root, indices=48)))
val_dataloader = dict(dataset=dict(data_root=data_root, indices=8))
val_evaluator = dict(ann_file=data_root + "annotations/val.json")
train_cfg = dict(max_iters=60, val_interval=30)
model = dict(test_cfg=dict(score_thr=0.0))
auto_scale_lr = dict(base_batch_size=4)
custom_hooks = [
    dict(type="ChannelsLastHook"),
    dict(type="SharedPrefixHook"),
    dict(type="LossCurveHook"),
    dict(type="ProgressHook", every_s=0.2),
    dict(type="ProbabilityHook"),
    dict(type="ResumableCheckpointHook", interval=5),
]
"""
GRID = """
blocks = [dict(points=[dict(loss="CE"), dict(loss="FL")], set={"model.bbox_head.loss_cls": {
    "$by": "loss",
    "CE": dict(type="ablations.CrossEntropyLoss", use_sigmoid=True),
    "FL": dict(type="ablations.FocalLoss", gamma=2.0, alpha=0.25, use_sigmoid=True)}})]
"""


class ChaosError(AssertionError):
    """Something that a sweep must survive, it did not survive."""


@dataclass
class Storm:
    """The sweep that is disturbed.

    Args:
        command: of the sweep, given in a folder; it makes ``folder / work_dir``.
        work_dir: the sweep's, below that folder.
        seed: of the faults.
        environment: of the command, as well as this process's.
        kinds: whom faults hit, of ``TARGETS``.
    """

    command: Sequence[str]
    work_dir: str
    seed: int
    environment: dict[str, str] = field(default_factory=dict)
    kinds: Sequence[str] = ()
    faults: Counter[str] = field(default_factory=Counter)  # "SIGKILL trial" -> how often
    sweeps: int = 0  # that ended with every record
    starts: int = 0

    def __post_init__(self) -> None:
        self._draw = random.Random(self.seed)
        self._mark = uuid.uuid4().hex
        self.kinds = self.kinds or tuple(TARGETS)
        self._next = self._kind()

    @property
    def kills(self) -> int:
        """How many SIGKILLs there were so far."""
        return sum(count for name, count in self.faults.items() if name.startswith("SIGKILL"))

    def run(self, folder: Path, kills: int, minutes: float) -> float:
        """Disturb sweeps below ``folder`` until there were enough kills and minutes.

        Returns:
            The seconds that it took, the undisturbed sweep and the last included.

        Raises:
            ChaosError: a record or file differs, a process or a lease is left, or a command ended
                with a traceback.
        """
        began = time.monotonic()
        for name in ("calm", "stormy"):
            (folder / name).mkdir()
        self._peace(folder / "calm")
        expected = _records(folder / "calm" / self.work_dir)
        here = folder / "stormy"
        until = time.monotonic() + 60 * minutes
        while self.kills < kills or time.monotonic() < until:
            code = self._disturb(here)
            _say(f"the command ended with {code}; {self.kills} kills so far")
            if code == 0:
                self._check(here / self.work_dir, expected)
                self.sweeps += 1
                shutil.rmtree(here / self.work_dir)
        self._peace(here)
        self._check(here / self.work_dir, expected)
        return time.monotonic() - began

    def _start(self, here: Path) -> subprocess.Popen[bytes]:
        self.starts += 1
        return subprocess.Popen(
            self.command,
            cwd=here,
            env=os.environ | self.environment | {MARK: self._mark},
            stdout=subprocess.DEVNULL,
            stderr=(here / "errors.txt").open("ab"),
            start_new_session=True,
        )

    def _peace(self, here: Path) -> None:
        """Run the sweep to its end without a fault."""
        process = self._start(here)
        try:
            code = process.wait(LAST)
        except subprocess.TimeoutExpired:
            process.kill()
            raise ChaosError(f"the sweep in {here} did not end in {LAST:.0f} s") from None
        self._check_errors(here)
        if code != 0:
            raise ChaosError(f"the sweep in {here} ended with {code}")

    def _disturb(self, here: Path) -> int:
        """Give the command, and send signals until it ends; returns its exit status."""
        controller = self._start(here)
        heard = time.monotonic()
        pause = self._pause()
        while controller.poll() is None:
            time.sleep(0.05)
            if time.monotonic() - heard < pause:
                continue
            if self._fault(controller.pid):
                heard, pause = time.monotonic(), self._pause()
            elif time.monotonic() - heard > PATIENCE:
                controller.kill()
                raise ChaosError(f"the sweep in {here} hangs")
        self._check_errors(here)
        return controller.returncode

    def _pause(self) -> float:
        """Seconds to the next fault: mostly some, so that trials get on; sometimes hardly any."""
        return self._draw.choice((0.1, 1.0, 2.0, 4.0, 8.0)) * self._draw.uniform(0.5, 1.5)

    def _fault(self, controller: int) -> bool:
        """Send a signal to some of the sweep's processes; False while there are none to hit."""
        kind = self._next
        victims = TARGETS[kind][1](controller, list(self._processes()), self._draw)
        if not victims:
            return False
        self._next = self._kind()
        number = self._draw.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP))
        seconds = self._draw.uniform(0.2, 3.0)  # that a stopped process stands still
        then = self._draw.choice((signal.SIGCONT, signal.SIGKILL))
        _send(victims, number)
        self.faults[f"{number.name} {kind}"] += 1
        if number == signal.SIGSTOP:
            time.sleep(seconds)
            _send(victims, then)
            if then == signal.SIGKILL:
                self.faults[f"{then.name} {kind}"] += 1
        return True

    def _kind(self) -> str:
        return self._draw.choices(self.kinds, [TARGETS[kind][0] for kind in self.kinds])[0]

    def _processes(self) -> Iterator[psutil.Process]:
        """All processes of the sweep, whoever their parents are by now."""
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARK) == self._mark:
                    yield process
            except psutil.Error:
                continue

    def _check(self, work_dir: Path, expected: dict[str, dict[str, object]]) -> None:
        found = _records(work_dir)
        if found != expected:
            wrong = [id for id in {**found, **expected} if found.get(id) != expected.get(id)]
            raise ChaosError(
                f"{', '.join(wrong)} in {work_dir} differ from the undisturbed sweep's"
            )
        deadline = time.monotonic() + 30
        while left := [process.pid for process in self._processes()]:
            if time.monotonic() > deadline:
                raise ChaosError(f"processes {left} are left")
            time.sleep(0.2)
        if locks := list(work_dir.rglob("*lease.json*")):
            raise ChaosError(f"{locks} are left")

    @staticmethod
    def _check_errors(here: Path) -> None:
        text = (here / "errors.txt").read_text(errors="replace")
        if "Traceback" in text:
            raise ChaosError(f"the command ended with a traceback: {text[-2000:]}")


def _of_trials(
    controller: int, processes: list[psutil.Process]
) -> tuple[list[psutil.Process], list[psutil.Process], list[psutil.Process]]:
    """The fork server, the trials and what the trials have started."""
    parents = {process.pid: _parent(process) for process in processes}
    server = [p for p in processes if parents[p.pid] == controller and "forkserver" in _line(p)]
    forked = [p for p in processes if parents[p.pid] in {each.pid for each in server}]
    trials = [p for p in forked if _leads(p)]  # not the process that checks the plan
    below = [p for p in processes if parents[p.pid] in {each.pid for each in trials}]
    return server, trials, below


def _parent(process: psutil.Process) -> int:
    try:
        return process.ppid()
    except psutil.Error:
        return 0


def _leads(process: psutil.Process) -> bool:
    """Whether a process has a group of its own, as a trial does."""
    try:
        return os.getpgid(process.pid) == process.pid
    except ProcessLookupError:
        return False


def _line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


Choose = Callable[[int, list[psutil.Process], random.Random], list[int]]


def _one(which: int) -> Choose:
    def choose(controller: int, processes: list[psutil.Process], draw: random.Random) -> list[int]:
        found = _of_trials(controller, processes)[which]
        return [draw.choice(found).pid] if found else []

    return choose


def _group(controller: int, processes: list[psutil.Process], draw: random.Random) -> list[int]:
    trials = _of_trials(controller, processes)[1]
    if not trials:
        return []
    leader = draw.choice(trials)
    return [leader.pid, *(p.pid for p in processes if _parent(p) == leader.pid)]


def _everybody(controller: int, processes: list[psutil.Process], _draw: random.Random) -> list[int]:
    return [controller, *(process.pid for process in processes if process.pid != controller)]


TARGETS: dict[str, tuple[int, Choose]] = {
    "trial": (5, _one(1)),
    "loader": (2, _one(2)),
    "group of a trial": (3, _group),
    "fork server": (2, _one(0)),
    "controller": (2, lambda controller, _processes, _draw: [controller]),
    "all processes": (2, _everybody),
}
"""Whom a fault hits: how often, and which processes these are now."""


def _send(victims: Sequence[int], number: signal.Signals) -> None:
    for pid in victims:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def _records(work_dir: Path) -> dict[str, dict[str, object]]:
    """What must be equal, by trial."""
    found = {}
    for folder in sorted((work_dir / "trials").iterdir()):
        record = read_record(folder)
        if record is None:
            raise ChaosError(f"{folder} has no record")
        if wrong := damaged_files(folder, record):
            raise ChaosError(f"{', '.join(wrong)} in {folder} are not what the record says")
        found[folder.name] = _result(record)
    return found


def _result(record: Record) -> dict[str, object]:
    names = ("status", "reason", "metrics", "per_class", "history", "final", "files")
    return {name: getattr(record, name) for name in names}


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def sweep_command(folder: Path, seeds: int) -> list[str]:
    """The command of a sweep of two small trials a seed; each has a loader with a worker."""
    (folder / "config.py").write_text(CONFIG.format(root=ROOT, workers=1))
    (folder / "grid.py").write_text(GRID)
    paths = ["--grid", str(folder / "grid.py"), "--config", str(folder / "config.py")]
    rest = ["--work-dir", "sweep", "--workers", "2", "--no-report", "--seeds"]
    script = str(ROOT / "runners" / "sweep.py")
    return [sys.executable, script, *paths, *rest, *map(str, range(seeds))]


def storm(
    folder: Path, kills: int, minutes: float, seed: int, seeds: int = 2
) -> tuple[Storm, float]:
    """Disturb the small sweep of some ``seeds``; see ``Storm.run``."""
    _say(f"seed {seed}")
    quiet = {"WANDB_MODE": "disabled", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    found = Storm(sweep_command(folder, seeds), "sweep", seed, quiet)
    return found, found.run(folder, kills, minutes)


def figures(found: Storm, seconds: float) -> dict[str, object]:
    """What the page says of a storm."""
    rows: dict[str, object] = {
        "kills survived": found.kills,
        "faults injected": sum(found.faults.values()),
        "minutes": f"{seconds / 60:.0f}",
        "commands given": found.starts,
        "sweeps that ended under fire, with equal records": found.sweeps,
        "seed": str(found.seed),
    }
    return rows | {f"{name}": count for name, count in sorted(found.faults.items())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100, help="at least so many SIGKILLs")
    parser.add_argument("--minutes", type=float, default=30.0, help="at least so long")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--no-page", action="store_true", help="leave reports/reliability.md")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found, seconds = storm(Path(folder), options.kills, options.minutes, options.seed)
    rows = figures(found, seconds)
    print("\n".join(f"{name}: {value}" for name, value in rows.items()))
    if not options.no_page:
        reliability.write("chaos", rows)


if __name__ == "__main__":
    main()
