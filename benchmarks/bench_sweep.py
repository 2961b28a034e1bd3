"""Train the same points with mmdet's own tool and with this project; compare cost and results.

    python -m benchmarks.bench_sweep [--points 16] [--rounds 4] [--out FILE]

"Stock" is mmdet's ``tools/train.py``, called once for each trial, one after the other, with torch's
default number of threads and two loader workers, as ``mim gridsearch`` does. "Ours" is
``runners/sweep.py``. Both train the same detector on the same data in the same order from the same
seed. They take turns, a round of points each, so that other work on the machine slows both. The
processor time is that of all processes of a command. A last, short run measures the parts of both.
"""

from __future__ import annotations

import argparse
import ctypes
import datetime
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import mmdet
import numpy as np

from ablations import machine
from ablations.store.config import config_text
from ablations.store.states import sweep_states
from ablations.sweep.grid import parse_grid, read_grid
from ablations.sweep.plan import Trial, load_config, override, plan, prepare_config
from benchmarks.stock import write_stock

REPOSITORY = Path(__file__).resolve().parents[1]
CONFIG = "configs/retinanet_r18_digits.py"
TRAIN = Path(mmdet.__file__).parent / ".mim" / "tools" / "train.py"
SEED = 1
PARTS_ITERATIONS = 60
PARTS_HOME = REPOSITORY / "benchmarks"  # the folder of the module ``parts``
_PR_SET_CHILD_SUBREAPER = 36


class Cost(NamedTuple):
    """Of a command with all its processes, in seconds."""

    wall: float
    cpu: float


def timed(command: list[str], folder: Path, **environment: str) -> Cost:
    """Run a command; its output goes to ``folder/output.txt``.

    Raises:
        RuntimeError: it failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    clean = {name: value for name, value in os.environ.items() if "_NUM_THREADS" not in name}
    clean |= {"WANDB_MODE": "offline"} | environment
    began, cpu = time.monotonic(), _cpu()
    with (folder / "output.txt").open("a") as output:
        process = subprocess.Popen(
            command, cwd=REPOSITORY, env=clean, stdout=output, stderr=subprocess.STDOUT
        )
        process.wait()
    wall = time.monotonic() - began
    try:  # servers that outlive the command by a moment; we are their subreaper
        while True:
            os.wait()
    except ChildProcessError:
        pass
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: see {folder / 'output.txt'}")
    return Cost(wall, _cpu() - cpu)


def _cpu() -> float:
    used = os.times()
    return used.children_user + used.children_system


def choose(count: int, smoke: bool) -> list[Trial]:
    """``count`` trials spread over the default sweep, plain cross entropy among them."""
    name, spec = read_grid("gamma_alpha")
    config = prepare_config(load_config(CONFIG), {}, 1, smoke)
    grid = parse_grid(name, spec, config["protocol"])
    trials = list(plan(config, grid, [SEED]))
    chosen = np.linspace(0, len(trials) - 1, count).round().astype(int)
    return [trials[index] for index in chosen]


def ours(
    trials: list[Trial],
    folder: Path,
    options: dict[str, object],
    smoke: bool = False,
    **environment: str,
) -> Cost:
    """Our sweep of some trials, without its report, which the stock way has none of."""
    folder.mkdir(parents=True, exist_ok=True)
    key = "model.bbox_head.loss_cls"
    blocks = [
        dict(points=[trial.point.coordinates], set={key: trial.point.overrides[key]})
        for trial in trials
    ]
    (folder / "points.py").write_text(config_text({"title": "points", "blocks": blocks}))
    command = [sys.executable, "runners/sweep.py", "--grid", str(folder / "points.py")]
    command += ["--seeds", str(SEED), "--work-dir", str(folder / "work"), "--no-report"]
    command += ["--smoke"] if smoke else []
    pairs = [f"{path}={value}" for path, value in options.items()]
    return timed(command + (["--cfg-options", *pairs] if pairs else []), folder, **environment)


def stock(
    trials: list[Trial], folder: Path, extra_imports: Sequence[str] = (), **environment: str
) -> Cost:
    """``tools/train.py`` for each trial."""
    wall = cpu = 0.0
    for trial in trials:
        here = folder / trial.id
        config = write_stock(here, trial.config, extra_imports)
        command = [sys.executable, str(TRAIN), str(config), "--work-dir", str(here / "work")]
        cost = timed(command, here, PYTHONPATH=f"{here}:{PARTS_HOME}", **environment)
        wall, cpu = wall + cost.wall, cpu + cost.cpu
    return Cost(wall, cpu)


def stock_ap(folder: Path) -> float:
    """The AP in percent that mmengine logged last; mmdet logs none where nothing was detected."""
    (log,) = folder.glob("work/*/vis_data/scalars.json")
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    found = [row["coco/bbox_mAP"] for row in rows if "coco/bbox_mAP" in row]
    return 100 * found[-1] if found else 0.0


def parts(trials: list[Trial], folder: Path) -> tuple[dict[str, float], dict[str, float]]:
    """Seconds of each part, the stock way and ours, over two trials of a short schedule each."""
    length = {"train_cfg.max_iters": PARTS_ITERATIONS, "train_cfg.val_interval": PARTS_ITERATIONS}
    short = []
    for trial in trials:
        config = trial.config
        for path, value in length.items():
            config = override(config, path, value)
        short.append(replace(trial, config=config))
    out = {name: folder / f"parts-{name}" for name in ("stock", "ours")}
    for place in out.values():
        place.mkdir()
    stock(short, folder / "clocked-stock", ["parts"], PARTS=str(out["stock"]))
    options = length | {"custom_imports.imports": ["ablations.training", "parts"]}
    path = f"{PARTS_HOME}:{REPOSITORY}"
    ours(trials, folder / "clocked-ours", options, PARTS=str(out["ours"]), PYTHONPATH=path)
    return _mean_seconds(out["stock"]), _mean_seconds(out["ours"])


def _mean_seconds(folder: Path) -> dict[str, float]:
    """Of each part, over the trials that were clocked into ``folder``."""
    found = [json.loads(file.read_text())["seconds"] for file in folder.glob("*.json")]
    seconds: dict[str, float] = defaultdict(float)
    for trial in found:
        for part, value in trial.items():
            seconds[part] += value / len(found)
    return dict(seconds)


def measure(count: int, rounds: int, smoke: bool, clock: bool, folder: Path) -> str:
    """The whole page."""
    trials = choose(count, smoke)
    costs: list[tuple[Cost, Cost]] = []
    pairs: list[tuple[str, float, float]] = []
    for number, share in enumerate(np.array_split(np.arange(count), rounds)):
        these = [trials[index] for index in share]
        here = folder / f"round-{number}"
        mine = ours(these, here / "ours", {}, smoke)
        theirs = stock(these, here / "stock")
        costs.append((theirs, mine))
        print(f"round {number + 1}: stock {theirs}, ours {mine}", flush=True)
        for state in sweep_states(here / "ours" / "work")[1]:
            assert state.record is not None
            ap = stock_ap(here / "stock" / state.entry.id)
            pairs.append((state.entry.label, ap, state.record.metrics["AP"] or 0.0))
    return page(trials, costs, pairs, parts(trials[:2], folder) if clock else None)


def page(
    trials: list[Trial],
    costs: list[tuple[Cost, Cost]],
    pairs: list[tuple[str, float, float]],
    clocked: tuple[dict[str, float], dict[str, float]] | None,
) -> str:
    """What was measured, as markdown; ratios first."""
    count, rounds = len(trials), len(costs)
    iterations = trials[0].config["train_cfg"]["max_iters"]
    batch = trials[0].config["train_dataloader"]["batch_size"]
    lines = [
        "# The default sweep, the stock way and ours",
        "",
        f"`python -m benchmarks.bench_sweep --points {count} --rounds {rounds}` "
        f"(`make bench-sweep`), {datetime.date.today().isoformat()}, {machine.description()}.",
        "",
        f"{count} trials of `gamma_alpha` ({iterations} iterations of {batch} images and an "
        "evaluation each) trained twice: by mmdet's `tools/train.py` in a loop, and by "
        "`runners/sweep.py`. "
        "Start-up is in it on both sides, our report is not.",
        "",
        "| round | trials | stock / ours, wall time | stock / ours, processor time "
        "| stock, s a trial | ours, s a trial |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    shares = np.array_split(np.arange(count), rounds)
    total = [Cost(*np.sum([pair[side] for pair in costs], axis=0)) for side in (0, 1)]
    rows = [(str(i + 1), len(shares[i]), *cost) for i, cost in enumerate(costs)]
    for name, number, theirs, mine in [*rows, ("all", count, *total)]:
        lines.append(
            f"| {name} | {number} | {theirs.wall / mine.wall:.2f} | {theirs.cpu / mine.cpu:.2f} "
            f"| {theirs.wall / number:.1f} | {mine.wall / number:.1f} |"
        )
    lines += ["", *_results(pairs)]
    if clocked is not None:
        lines += ["", *_parts(*clocked)]
    return "\n".join(lines) + "\n"


def _results(pairs: list[tuple[str, float, float]]) -> list[str]:
    differences = [mine - theirs for _, theirs, mine in pairs]
    mean = statistics.mean(differences)
    error = statistics.stdev(differences) / len(differences) ** 0.5 if len(pairs) > 1 else 0.0
    return [
        "## The same results",
        "",
        "Equal seeds give equal losses until rounding has grown (a test compares them, in float64 "
        f"the first 50); after that the two are two trainings. AP, ours minus stock: {mean:+.2f} "
        f"with a standard error of {error:.2f}.",
        "",
        "| point | stock AP | our AP | difference |",
        "| --- | ---: | ---: | ---: |",
        *(f"| {label} | {t:.1f} | {m:.1f} | {m - t:+.1f} |" for label, t, m in pairs),
    ]


def _parts(theirs: dict[str, float], mine: dict[str, float]) -> list[str]:
    once = ("imports and set-up", "evaluation")
    lines = [
        "## The parts",
        "",
        f"Clocked in the first {PARTS_ITERATIONS} iterations, which see every image for the first "
        "time (later ours have data and targets in memory): one trial at a time on two threads the "
        "stock way, two at a time on a thread each ours, so *half* of our times is what a trial "
        "costs the machine.",
        "",
        "| part | stock | ours |",
        "| --- | ---: | ---: |",
    ]
    for part in sorted(set(theirs) | set(mine), key=lambda part: (part in once, part)):
        scale, unit = (1, "s a trial") if part in once else (1000 / PARTS_ITERATIONS, "ms")
        values = (f"{scale * side.get(part, 0.0):.1f} {unit}" for side in (theirs, mine))
        lines.append(f"| {part} | {' | '.join(values)} |")
    return lines


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--smoke", action="store_true", help="a tiny schedule, to see it work")
    parser.add_argument("--no-parts", dest="parts", action="store_false", help="do not clock them")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "reports/benchmarks/sweep.md")
    options = parser.parse_args()
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
    with tempfile.TemporaryDirectory() as folder:
        text = measure(options.points, options.rounds, options.smoke, options.parts, Path(folder))
    options.out.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
