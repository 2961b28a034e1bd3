"""Measure what W&B costs a trial: run the same trial with W&B disabled and offline, in turns.

    python -m benchmarks.bench_wandb [--out reports/benchmarks/wandb.md] [--turns 4]

The modes take turns, also in being first, so that other work on the machine slows both. An
iteration's seconds are the means of the trial's own log, without the first fifty. There is no third
mode for online: a trial always writes offline, and another process uploads.
"""

from __future__ import annotations

import argparse
import datetime
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

from ablations import machine
from ablations.store.files import write_json
from ablations.store.manifest import trial_folder
from ablations.store.record import TRIAL
from ablations.sweep import cli
from ablations.sweep.preflight import preflight_without_torch
from ablations.sweep.work_dir import write_sweep
from ablations.training.wandb_backend import TrialRunBackend, close_run

REPOSITORY = Path(__file__).parents[1]
MODES = ("disabled", "offline")
ITERATIONS = 100
CONFIG = f"""
_base_ = ["{REPOSITORY}/configs/retinanet_r18_digits.py"]
train_cfg = dict(max_iters={ITERATIONS}, val_interval={ITERATIONS})
val_dataloader = dict(dataset=dict(indices=100))
"""
GRID = """
blocks = [dict(points=[dict(loss="FL")], set={
    "model.bbox_head.loss_cls": dict(type="ablations.FocalLoss", use_sigmoid=True)})]
"""
ROWS = 2000  # of the backend alone
FLUSH = 10  # iterations a row, as LossCurveHook has it


class Cost(NamedTuple):
    """Seconds: of an iteration, of the trial's process, and of processors that it and W&B took."""

    iteration: float
    trial: float
    processor: float


def plan(folder: Path) -> Path:
    """Plan the trial; returns its folder."""
    (folder / "config.py").write_text(CONFIG)
    (folder / "grid.py").write_text(GRID)
    flags = ["--grid", str(folder / "grid.py"), "--config", str(folder / "config.py")]
    request = cli.resolve(cli.parse([*flags, "--work-dir", str(folder / "sweep")]))
    write_sweep(request, preflight_without_torch(request)["data"], ["bench"])
    return trial_folder(request.work_dir, request.trials[0].id)


def processor_seconds(who: int) -> float:
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime


def train(planned: Path, mode: str) -> Cost:
    """Run a copy of the planned trial."""
    folder = planned.with_name(f"{planned.name}-{mode}")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(planned, folder)
    used, start = processor_seconds(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        [sys.executable, "runners/trial.py", str(folder)],
        cwd=REPOSITORY,
        env=os.environ | {"WANDB_MODE": mode, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
    )
    seconds = time.perf_counter() - start
    used = processor_seconds(resource.RUSAGE_CHILDREN) - used
    windows = [float(t) for t in re.findall(r"Iter\(train\).* time: ([\d.]+)", done.stdout)]
    return Cost(statistics.mean(windows[1:]), seconds, used)


def alone(folder: Path) -> tuple[float, float]:
    """The backend without a trial: microseconds of processor time an iteration, in the thread that
    trains and in all that W&B is."""
    trial = {"id": "-", "sweep": "-", "point": {}, "label": "-", "seed": 0, "loss": {}}
    write_json(folder / TRIAL, trial)
    row = {f"train/{name}": 0.5 for name in ("lr", "loss", "loss_cls", "loss_bbox", "positive")}
    before = [processor_seconds(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    backend = TrialRunBackend(save_dir=str(folder))
    backend.add_config(SimpleNamespace(work_dir=str(folder), to_dict=dict))
    told = 0.0
    for number in range(ROWS):
        start = time.thread_time()
        backend.add_scalars(row, step=(number + 1) * FLUSH)
        told += time.thread_time() - start
        time.sleep(0.002)  # the writer keeps up, as it does with a trial
    visualizer = SimpleNamespace(_vis_backends={"wandb": backend})
    close_run(SimpleNamespace(visualizer=visualizer, work_dir=str(folder), iter=0), "diverged")
    after = [processor_seconds(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    scale = 1e6 / (ROWS * FLUSH)
    return told * scale, (sum(after) - sum(before)) * scale


def table(costs: dict[str, list[Cost]]) -> list[str]:
    """Markdown rows, the ratios first."""
    lines = [
        "| offline / disabled | lowest and highest turn | disabled | offline | |",
        "| ---: | --- | ---: | ---: | --- |",
    ]
    names = {
        "processor": ("s of processor time a trial, W&B's own process included", 1.0),
        "trial": ("s a trial, from the start of its process to its end", 1.0),
        "iteration": ("ms an iteration", 1e3),
    }
    for field, (name, scale) in names.items():
        values = {mode: [getattr(cost, field) for cost in costs[mode]] for mode in MODES}
        pairs = zip(values["disabled"], values["offline"], strict=True)
        ratios = sorted(offline / disabled for disabled, offline in pairs)
        medians = [f"{scale * statistics.median(values[mode]):.1f}" for mode in MODES]
        lines.append(
            f"| {statistics.median(ratios):.3f} | {ratios[0]:.3f} to {ratios[-1]:.3f} "
            f"| {medians[0]} | {medians[1]} | {name} |"
        )
    return lines


def report(turns: int) -> str:
    """The whole page."""
    costs: dict[str, list[Cost]] = {mode: [] for mode in MODES}
    with tempfile.TemporaryDirectory() as scratch:
        planned = plan(Path(scratch))
        for turn in range(turns):
            for mode in MODES if turn % 2 else reversed(MODES):
                costs[mode].append(train(planned, mode))
        (Path(scratch) / "alone").mkdir()
        told, all_of_it = alone(Path(scratch) / "alone")
    return "\n".join(
        [
            "# What W&B costs a trial",
            "",
            f"One trial of the embedded setting, {ITERATIONS} iterations and 100 "
            f"validation images, with `WANDB_MODE=disabled` and `offline` in turns, {turns} each; "
            "medians, and ratios within a turn.",
            "Written by `make bench-wandb`.",
            "",
            f"- Date: {datetime.date.today().isoformat()}",
            f"- {machine.description()}; one thread a trial",
            f"- Load average {os.getloadavg()[1]:.1f}: what is above 1 is other work, which blurs "
            "all but the processor time",
            "",
            *table(costs),
            "",
            f"The backend alone, {ROWS:,} rows without a trial: {told:.1f} µs of processor time an "
            f"iteration in the thread that trains, {all_of_it:.0f} µs in all of W&B (its thread, "
            "its process, start and end).",
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("reports/benchmarks/wandb.md"))
    parser.add_argument("--turns", type=int, default=4)
    options = parser.parse_args()
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        del os.environ[name]
    page = report(options.turns)
    print(page)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(page)


if __name__ == "__main__":
    main()
