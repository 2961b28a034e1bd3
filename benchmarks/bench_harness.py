"""Measure the harness itself with ten thousand trials.

    python -m benchmarks.bench_harness [--out reports/benchmarks/harness.md]

The sweeps are fabricated: records, curves, logits and predictions as trials write them, but nothing
was trained. Memory is that of a command and all its processes; shared pages are counted once.
"""

from __future__ import annotations

import argparse
import datetime
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from ablations import machine
from ablations.analysis.image_bootstrap import MAX_PREDICTION_BYTES, MAX_TRIALS
from ablations.sweep import cli
from ablations.sweep.launchers.local import LocalLauncher
from ablations.sweep.work_dir import write_sweep
from tests.helpers.fabricated import Plan, fabricate
from tests.helpers.stub_trial import plan as stub_plan

ROOT = Path(__file__).parents[1]

# The promised limits: seconds, and megabytes at a time.
PLAN_S, READ_S, READ_MB, LAUNCH_S = 5.0, 20.0, 500.0, 0.3

GRID = """
title = "ten thousand trials"
blocks = [
    dict(
        product=dict(
            gamma=[0.05 * i for i in range({gammas})],
            alpha=[(i + 1) / ({alphas} + 1) for i in range({alphas})],
        ),
        set={{"model.bbox_head.loss_cls": dict(
            type="ablations.FocalLoss", gamma="$gamma", alpha="$alpha", use_sigmoid=True)}},
    )
]
"""
SHAPES = {
    "100 cells x 100 seeds": (10, 10, 100),
    "2,000 x 5": (40, 50, 5),
    "10,000 x 1": (100, 100, 1),
}


@dataclass(frozen=True)
class Cost:
    """Seconds on the clock and of all processors, and the most memory at once in megabytes."""

    wall: float
    cpu: float
    peak_mb: float


def measure(*command: str | Path) -> Cost:
    """Run one of ``runners/``.

    Raises:
        RuntimeError: it failed; the message is the end of its output.
    """
    began, before = time.perf_counter(), os.times()
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            [sys.executable, *map(str, command)],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=errors,
        )
        peak = 0
        while process.poll() is None:
            peak = max(peak, _memory(process.pid))
            time.sleep(0.05)
        if process.returncode:
            errors.seek(0)
            raise RuntimeError(errors.read()[-2000:])
    after = os.times()
    cpu = after.children_user + after.children_system
    cpu -= before.children_user + before.children_system
    return Cost(time.perf_counter() - began, cpu, peak / 1e3)


def _memory(pid: int) -> int:
    """Kilobytes of a process and of those below it, shared pages by shares."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        own = next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))
        tasks = Path(f"/proc/{pid}/task").glob("*/children")
        return own + sum(
            _memory(int(child)) for task in tasks for child in task.read_text().split()
        )
    except (OSError, StopIteration):  # it has just ended
        return 0


def planning(folder: Path, gammas: int, alphas: int, seeds: int) -> Cost:
    """``runners/sweep.py --dry-run --json``."""
    grid = folder / f"grid_{gammas}_{alphas}.py"
    grid.write_text(GRID.format(gammas=gammas, alphas=alphas))
    return measure(*_sweep(folder, grid, seeds), "--dry-run", "--json")


def _sweep(folder: Path, grid: Path, seeds: int) -> list[str | Path]:
    flags = ["--grid", grid, "--work-dir", folder / "planned", "--seeds", *map(str, range(seeds))]
    return ["runners/sweep.py", *flags]


def writing(folder: Path, gammas: int, alphas: int, seeds: int) -> float:
    """Seconds to write the folders of a sweep's trials."""
    grid = folder / "written.py"
    grid.write_text(GRID.format(gammas=gammas, alphas=alphas))
    request = cli.resolve(cli.parse([str(flag) for flag in _sweep(folder, grid, seeds)[1:]]))
    annotations = folder / "val.json"
    annotations.write_text("{}")
    part = {"file": str(annotations), "annotations": "0"}
    began = time.perf_counter()
    write_sweep(request, {"train": part, "val": part}, ["python", "runners/sweep.py"])
    return time.perf_counter() - began


def records(folder: Path, gammas: int, alphas: int, seeds: int, images: int = 1000) -> Path:
    """A fabricated sweep of finished trials with their files, those of 97 trials over and over."""
    points = [
        {"gamma": 0.05 * gamma, "alpha": (alpha + 1) / (alphas + 1)}
        for gamma in range(gammas)
        for alpha in range(alphas)
    ]
    points[0] = {"loss": "CE"}
    plan = Plan(points=points, seeds=tuple(range(seeds)), images=images, distinct=97)
    return fabricate(folder / f"sweep_{gammas}_{alphas}", plan)


def launching(folder: Path, trials: int = 50, workers: int = 1) -> float:
    """Seconds that the local launcher adds to a trial: trials that do nothing, one after another,
    in a pool of processes that is up already."""
    launcher = LocalLauncher(workers)
    launcher.run(stub_plan(folder / "warm", {"trial": {"steps": 0}}), lambda states: None)
    job = stub_plan(folder / "launched", {f"trial{i}": {"steps": 0} for i in range(trials)})
    began = time.perf_counter()
    launcher.run(job, lambda states: None)
    return (time.perf_counter() - began) / trials


def report(folder: Path) -> str:
    """The whole page."""
    rows = []

    def row(what: str, shape: str, cost: Cost, bound: str) -> None:
        rows.append(
            (what, shape, f"{cost.wall:.1f}", f"{cost.cpu:.1f}", f"{cost.peak_mb:.0f}", bound)
        )

    for shape, size in SHAPES.items():
        row("`sweep.py --dry-run --json`", shape, planning(folder, *size), f"{PLAN_S:g} s")
    bound = f"{READ_S:g} s, {READ_MB:g} MB"
    for shape, size in SHAPES.items():
        work_dir = records(folder, *size)
        row("`status.py`", shape, measure("runners/status.py", work_dir), bound)
        for again in ("", " again"):
            cost = measure("runners/report.py", work_dir, "--out", folder / "report")
            row(f"`report.py`{again}", shape, cost, bound)
    table = [
        "| command | trials | s | CPU s | MB | promised |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
        *(f"| {' | '.join(cells)} |" for cells in rows),
    ]
    lines = [
        "# The harness itself, with ten thousand trials",
        "",
        "Written by `make bench-harness`.",
        "",
        f"- Date: {datetime.date.today().isoformat()}",
        f"- {machine.description()}",
        "",
        *table,
        "",
        f"The local launcher adds {launching(folder):.3f} s to a trial ({LAUNCH_S:g} s promised; "
        "50 trials that do nothing, one at a time; their processes' start and their lease, "
        f"status and record included). Writing the folders of {100 * 100:,} trials takes "
        f"{writing(folder, *SHAPES['100 cells x 100 seeds']):.0f} s.",
        "",
        "Seconds on the clock include whatever else the machine did; CPU seconds are those of all "
        "processes. Memory is the most at once of a command with its processes. Every trial has a "
        "record, a curve, logits, and predictions on 1,000 images. The first report resamples the "
        f"images of as many trials as {MAX_PREDICTION_BYTES >> 20} MB of predictions allow (up to "
        f"{MAX_TRIALS} trials: of all, whatever their size; [resampling.md](resampling.md)) and "
        "says of how many; the second finds what the first has kept.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("reports/benchmarks/harness.md"))
    options = parser.parse_args()
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    with tempfile.TemporaryDirectory() as folder:
        page = report(Path(folder))
    print(page)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(page)


if __name__ == "__main__":
    main()
