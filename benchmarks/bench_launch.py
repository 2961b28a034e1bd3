"""Measure the cost of launching: the same smoke trials with the local launcher and with Slurm.

    python -m benchmarks.bench_launch [--out reports/benchmarks/launching.md] [--trials 4]

Trials run one at a time; Slurm is a cluster of two nodes that this script starts on this machine.
Both run the `sweep` command, and are timed by the files that the trials write.
"""

import argparse
import datetime
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from ablations import machine
from ablations.store.files import read_json
from ablations.store.record import RECORD
from ablations.store.status import STATUS
from tests.helpers.slurm_cluster import SlurmCluster

ROOT = Path(__file__).parents[1]
GRID = """
blocks = [dict(points=[dict(loss="FL")], set={"model.bbox_head.loss_cls": dict(
    type="ablations.FocalLoss", gamma=2.0, alpha=0.25, use_sigmoid=True)})]
"""
FLAGS = ("--grid", "grid.py", "--smoke", "--no-report", "--max-parallel", "1")
SLURM = ("--launcher", "slurm", "--slurm", "time=60", "cpus_per_process=1", "gpus_per_process=0")
POLL = 0.02
PATIENCE = 300.0


@dataclass(frozen=True)
class Timeline:
    """Seconds since the command was given; a trial's two are in the order the trials ran."""

    returned: float
    began: list[float]  # the first training iteration is done
    ended: list[float]  # the record is written

    @property
    def between(self) -> list[float]:
        """From a trial's record to the next trial's first iteration."""
        return [
            after - before for before, after in zip(self.ended[:-1], self.began[1:], strict=True)
        ]


def follow(command: list[str], folder: Path, trials: int) -> Timeline:
    """Give the command in ``folder`` and watch its trials to the last record.

    Raises:
        RuntimeError: the command fails, or there is no last record within ``PATIENCE``.
    """
    start = time.monotonic()
    began: dict[str, float] = {}
    ended: dict[str, float] = {}
    returned = 0.0
    with (folder / "command.log").open("w") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
    try:
        while len(ended) < trials or not returned:
            time.sleep(POLL)
            now = time.monotonic() - start
            if process.poll() is not None and not returned:
                returned = now
            if process.poll() or now > PATIENCE:
                raise RuntimeError((folder / "command.log").read_text())
            for trial in folder.glob("work_dirs/*/trials/*"):
                if trial.name not in began and "iteration" in (read_json(trial / STATUS) or {}):
                    began[trial.name] = now
                if trial.name not in ended and (trial / RECORD).is_file():
                    ended[trial.name] = now
    finally:
        process.terminate()
    return Timeline(returned, sorted(began.values()), sorted(ended.values()))


def sweep(folder: Path, launcher: tuple[str, ...], trials: int) -> Timeline:
    """One sweep, in a folder of its own."""
    folder.mkdir()
    (folder / "configs").symlink_to(ROOT / "configs")
    (folder / "data").symlink_to(ROOT / "data")
    (folder / "grid.py").write_text(GRID)
    script = str(ROOT / "runners" / "sweep.py")
    seeds = ("--seeds", *map(str, range(trials)))
    return follow([sys.executable, script, *FLAGS, *seeds, *launcher], folder, trials)


def import_seconds() -> float:
    """What a process needs until it can begin a trial."""
    start = time.monotonic()
    subprocess.run([sys.executable, "-c", "import ablations.training.trial"], cwd=ROOT, check=True)
    return time.monotonic() - start


def measure(folder: Path, trials: int) -> tuple[Timeline, Timeline, str]:
    """The sweep locally and on Slurm, and Slurm's version."""
    (ROOT / "data").mkdir(exist_ok=True)
    sweep(folder / "first", (), 1)  # builds the data, and fills the file cache
    local = sweep(folder / "local", (), trials)
    cluster = SlurmCluster(folder / "cluster")
    try:
        cluster.start()
        os.environ.update(cluster.environment)
        slurm = sweep(folder / "slurm", SLURM, trials)
        cluster.wait_for(lambda: not cluster.jobs(), 60)
        return local, slurm, cluster.run("sinfo", "--version")
    finally:
        cluster.stop()


def report(trials: int) -> str:
    """The whole page."""
    busy = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name:
        local, slurm, version = measure(Path(name), trials)
    rows = {
        "from the command to the first training iteration": (local.began[0], slurm.began[0]),
        "from one trial's record to the next one's first iteration (median)": (
            median(local.between),
            median(slurm.between),
        ),
        "from the command to the last record": (local.ended[-1], slurm.ended[-1]),
    }
    spread = [f"{min(gaps):.1f} to {max(gaps):.1f} s" for gaps in (local.between, slurm.between)]
    lines = [
        "# What launching costs",
        "",
        f"{trials} smoke trials of the embedded setting, one at a time, by the local launcher and "
        "by Slurm: two nodes on this same machine, so no network and nobody else's jobs.",
        "Written by `make bench-launch`.",
        "",
        f"- Date: {datetime.date.today().isoformat()}",
        f"- {machine.description()}, load {busy:.1f} before; {version}",
        f"- Command: `python runners/sweep.py {' '.join(FLAGS)} --seeds ...`, and with "
        f"`{' '.join(SLURM)}`",
        "",
        "| Slurm / local | local, s | Slurm, s | |",
        "| ---: | ---: | ---: | --- |",
        *(f"| {b / a:.1f} | {a:.1f} | {b:.1f} | {name} |" for name, (a, b) in rows.items()),
        "",
        f"The gaps between trials ran from {spread[0]} locally and from {spread[1]} on Slurm. "
        f"Every task on Slurm imports torch and mmdet anew ({import_seconds():.1f} s here); the "
        "local launcher does so once a sweep and forks. "
        f"The command returns after {slurm.returned:.1f} s on Slurm, when the array is queued. "
        "Whatever else the machine did meanwhile (see the load) stretches both columns.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("reports/benchmarks/launching.md"))
    parser.add_argument("--trials", type=int, default=4)
    options = parser.parse_args()
    page = report(options.trials)
    print(page)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(page)


if __name__ == "__main__":
    main()
