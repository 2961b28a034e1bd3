"""The command line of ``sweep``: its flags, the plan it prints, and the outcome."""

import argparse
import contextlib
import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ablations.machine import threads, visible_gpus
from ablations.shipped import configs_folder
from ablations.store import wandb_names
from ablations.store.choosing import ONLY, choose
from ablations.store.manifest import Entry
from ablations.store.record import LOG
from ablations.store.states import TrialState, sweep_states
from ablations.sweep.dataset import annotation_checksums
from ablations.sweep.display import in_columns
from ablations.sweep.entry_points import EntryPoints
from ablations.sweep.errors import UsageError
from ablations.sweep.estimate import CostEstimate, estimate
from ablations.sweep.grid import DEFAULT_PROTOCOL, Grid, parse_grid, read_grid
from ablations.sweep.launchers.launcher import Launcher
from ablations.sweep.launchers.local import LocalLauncher, default_workers
from ablations.sweep.plan import load_config, parse_options, plan, prepare_config
from ablations.sweep.request import Request
from ablations.sweep.reuse import read_sources, with_reusable

REUSE = "take finished trials over from these sweeps, after checking them, instead of training"
DEFAULT_CONFIG = "configs/retinanet_r18_digits.py"
LAUNCHERS = ("local", "slurm")
SLURM_SETTINGS = Path("configs/slurm.toml")
QUESTIONS = ("best", "baseline")
MARGIN, MAX_SEEDS = 0.5, 10  # of --decide


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the flags of the command; exits with status 2 on bad usage."""
    parser = argparse.ArgumentParser(
        description="Train a detector over a grid of losses and write the report.",
        epilog="The same command again continues where the last one stopped.",
    )
    add = parser.add_argument
    add("--grid", required=True, help="a name in configs/grids, or a grid file")
    add("--config", help=f"detector, data and schedule (default: {DEFAULT_CONFIG})")
    add("--seeds", type=int, nargs="+", metavar="N", help="default: 0; with --decide: 0, 1, ...")
    add("--only", nargs="+", default=[], metavar="K=V", help=ONLY)
    add("--cfg-options", nargs="+", default=[], metavar="K=V", help="override existing keys")
    add("--launcher", choices=LAUNCHERS, default="local", help="default: local")
    workers = "trials at a time (default: GPUs or cores; on Slurm: as many as it lets run)"
    add("--workers", "--max-parallel", type=int, metavar="N", help=workers)
    add("--gpus-per-trial", type=int, default=1, metavar="N", help="processes of a trial")
    add("--work-dir", type=Path, metavar="DIR", help="default: work_dirs/<grid>")
    add("--smoke", action="store_true", help="a tiny schedule, in a work directory of its own")
    add("--dry-run", action="store_true", help="print the trials and their cost; start nothing")
    add("--json", action="store_true", help="with --dry-run: one JSON object")
    add("--reuse", type=Path, nargs="+", default=[], metavar="WORK_DIR", help=REUSE)
    add(
        "--retry-failed",
        action="store_true",
        help="run trials that raised again, from their last checkpoint",
    )
    add("--check-images", action="store_true", help="decode all images before the first trial")
    add("--no-report", action="store_true", help="train only")
    add("--wandb", choices=wandb_names.MODES, help="default: WANDB_MODE, or else offline")
    ask = parser.add_argument_group(
        "deciding", "more seeds where a question is still open; stops when it is answered"
    ).add_argument
    ask(
        "--decide", choices=QUESTIONS, help="which cells can be the best; each against the baseline"
    )
    ask("--margin", type=float, metavar="AP", help=f"smaller differences: none (default: {MARGIN})")
    ask("--max-seeds", type=int, metavar="N", help=f"of a cell (default: {MAX_SEEDS})")
    slurm = parser.add_argument_group("Slurm").add_argument
    slurm("--wait", action="store_true", help="follow the trials to their end")
    slurm(
        "--slurm",
        nargs="+",
        default=[],
        metavar="K=V",
        help="settings that replace those of the file",
    )
    slurm("--slurm-settings", type=Path, metavar="FILE", help=f"default: {SLURM_SETTINGS}")
    args = parser.parse_args(arguments)
    for name in ("workers", "gpus_per_trial"):
        value = getattr(args, name)
        if value is not None and value < 1:
            parser.error(f"--{name.replace('_', '-')} is {value}; it must be at least 1")
    if not args.decide and (args.margin is not None or args.max_seeds is not None):
        parser.error("--margin and --max-seeds go with --decide")
    if args.decide:
        args.margin = MARGIN if args.margin is None else args.margin
        args.max_seeds = args.max_seeds if args.max_seeds is not None else MAX_SEEDS
        if args.max_seeds < 2:
            parser.error(f"--max-seeds is {args.max_seeds}; it must be at least 2")
        if not 0 < args.margin < float("inf"):
            parser.error(f"--margin is {args.margin:g}; it must be above 0, in AP")
        args.seeds = list(range(args.max_seeds)) if args.seeds is None else args.seeds
        if len(set(args.seeds)) != args.max_seeds:
            parser.error(f"--seeds names {len(set(args.seeds))}, --max-seeds is {args.max_seeds}")
    elif args.seeds is None:
        args.seeds = [0]
    if min(args.seeds) < 0 or max(args.seeds) >= 2**32:
        parser.error(f"--seeds are whole numbers from 0 to 4294967295, not {args.seeds}")
    if args.json and not args.dry_run:
        parser.error("--json goes with --dry-run")
    if args.launcher != "slurm" and (args.wait or args.slurm or args.slurm_settings):
        parser.error("--wait, --slurm and --slurm-settings go with --launcher slurm")
    gpus = len(visible_gpus()) if args.launcher == "local" and not args.dry_run else 0
    if 0 < gpus < args.gpus_per_trial:
        parser.error(f"--gpus-per-trial is {args.gpus_per_trial}; this machine has {gpus}")
    args.seeds = list(dict.fromkeys(args.seeds))
    try:
        threads()
        args.wandb = wandb_names.mode(args.wandb)
        if args.wandb != "disabled":
            wandb_names.check()
    except ValueError as error:
        parser.error(str(error))
    if args.workers is None and args.launcher == "local":
        args.workers = default_workers(args.gpus_per_trial)
    return args


def resolve(args: argparse.Namespace) -> Request:
    """Plan what the flags ask for.

    Raises:
        UsageError: a grid, a config, an option or a value is not valid.
    """
    grid_name, spec = read_grid(args.grid)
    path = args.config or spec.get("config") or DEFAULT_CONFIG
    base = load_config(path)
    grid = parse_grid(grid_name, spec, base.get("protocol", DEFAULT_PROTOCOL))
    grid = _chosen(grid, args.only)
    grid = replace(grid, note=" ".join(filter(None, (grid.note, base.get("setting")))))
    options = parse_options(args.cfg_options)
    for own in {path.lstrip("+") for point in grid.points for path in point.overrides}:
        for asked in (option.lstrip("+") for option in options):
            if f"{asked}.".startswith(f"{own}.") or f"{own}.".startswith(f"{asked}."):
                raise UsageError(f"--cfg-options {asked}: the grid {grid.name} sets {own}")
    config = prepare_config(base, options, args.gpus_per_trial, args.smoke)
    name = grid.name if path == DEFAULT_CONFIG else f"{grid.name}-{Path(path).stem}"
    work_dir = args.work_dir or Path("work_dirs") / (name + ("-smoke" if args.smoke else ""))
    if work_dir.name in ("", ".."):  # the sweep has its folder's name
        work_dir = work_dir.resolve()
    if not work_dir.name:
        raise UsageError(f"--work-dir is {args.work_dir}: a sweep needs a folder with a name")
    return Request(
        grid=grid,
        config=path,
        options={
            "cfg_options": options,
            "smoke": args.smoke,
            "gpus_per_trial": args.gpus_per_trial,
        },
        work_dir=work_dir,
        trials=list(plan(config, grid, args.seeds)),
        sources=read_sources(args.reuse),
    )


def _chosen(grid: Grid, only: Sequence[str]) -> Grid:
    """The grid with the cells that ``--only`` chooses.

    Raises:
        UsageError: a term is not valid, or no cell is left.
    """
    if not only:
        return grid
    try:
        kept = choose(only, [point.coordinates for point in grid.points])
    except ValueError as error:
        raise UsageError(str(error)) from None
    return replace(grid, points=[grid.points[index] for index in kept])


def unfinished(request: Request) -> list[Entry]:
    """The trials that have no record; each id once."""
    left = [state.entry for state in request.states() if state.record is None]
    return list({entry.id: entry for entry in left}.values())


def cost(args: argparse.Namespace, request: Request, states: Sequence[TrialState]) -> CostEstimate:
    """What the unfinished trials of the request will cost."""
    config = request.trials[0].config
    iterations = config["train_cfg"]["max_iters"]
    workers = args.workers or len(request.trials)
    known = states
    with contextlib.suppress(
        FileNotFoundError, ValueError
    ):  # there is no sweep yet, or no whole one
        known = sweep_states(request.work_dir)[1]  # its other seeds too
    own = {trial.id: trial.config for trial in request.trials}
    return estimate(states, known, config, workers, args.gpus_per_trial, iterations, own)


def trial_seconds(args: argparse.Namespace, request: Request) -> float | None:
    """Device-seconds of one trial, as far as they are known."""
    states = request.states()
    left = [replace(state, record=None, state="pending") for state in states[:1]]
    expected = cost(args, request, left)
    return None if expected.device_hours is None else 3600 * expected.device_hours


def print_plan(args: argparse.Namespace, request: Request) -> None:
    """Print the trials, their number and their cost, as a table or as one JSON object."""
    states: Sequence[TrialState] = request.states()
    if request.sources:
        checksums = annotation_checksums(request.trials[0].config)
        states = with_reusable(states, request.sources, checksums)
    if args.json:
        trials = [
            {"id": s.entry.id, "point": s.entry.point, "seed": s.entry.seed, "state": s.state}
            for s in states
        ]
        found = {"sweep": request.work_dir.name, "trials": trials}
        json.dump(found | {"estimate": cost(args, request, states).as_json()}, sys.stdout, indent=1)
        print()
        return
    rows = [(s.entry.id, s.entry.label, str(s.entry.seed), s.state) for s in states]
    print(in_columns(("trial", "point", "seed", "state"), rows))
    print(f"{len(states)} trials in {request.work_dir}")
    expected = cost(args, request, states)
    print(expected)
    print(expected.seeds)


def headline(args: argparse.Namespace, request: Request) -> str:
    """One line about what starts now."""
    at_a_time = f"{args.workers} at a time; " if args.workers else ""
    return (
        f"{request.grid.name}: {len(request.trials)} trials in {request.work_dir}, "
        f"{at_a_time}{cost(args, request, request.states())}"
    )


def make_launcher(
    args: argparse.Namespace,
    entry_points: EntryPoints,
    report: Sequence[str],
    next_round: Sequence[str] = (),
) -> Launcher:
    """The launcher that the flags and the settings file describe.

    Args:
        args: the flags.
        entry_points: of the training side.
        report: the command that writes the report after the last trial, if this one does not wait.
        next_round: the command that submits the next round of a sequential sweep then.

    Raises:
        UsageError: a setting is not valid.
    """
    if args.launcher == "local":
        return LocalLauncher(args.workers)
    # submitit takes half a second to import.
    from ablations.sweep.launchers.slurm.launcher import SlurmLauncher
    from ablations.sweep.launchers.slurm.settings import load_settings

    shipped = configs_folder() / SLURM_SETTINGS.name
    file = args.slurm_settings or (SLURM_SETTINGS if SLURM_SETTINGS.is_file() else shipped)
    settings = load_settings(file, parse_options(args.slurm, "--slurm"))
    later = () if args.wait or args.no_report else tuple(report)
    following = () if args.wait else tuple(next_round)
    check = entry_points.check_planned
    return SlurmLauncher(settings, args.workers, check, later, args.wait, next_round=following)


def print_outcome(request: Request) -> int:
    """Print how the trials ended; returns the exit status."""
    states = request.states()
    counts = Counter(state.state for state in states)
    print(", ".join(f"{count} {state}" for state, count in sorted(counts.items())), flush=True)
    bad = [state for state in states if state.state not in ("finished", "diverged")]
    for state in bad:
        print(
            f"{state.entry.label} seed {state.entry.seed}: {state.state}"
            f"{f' ({state.reason})' if state.reason else ''}; see {state.folder / LOG}",
            file=sys.stderr,
        )
    if any(state.state == "failed" for state in bad):
        print("--retry-failed runs failed trials again", file=sys.stderr)
    return 1 if bad else 0
