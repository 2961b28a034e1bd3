"""Give the readers inputs made at random: each is accepted, or refused in one line.

    python -m benchmarks.fuzz [--inputs N] [--seed N] [--no-page]

An input is a grid, overrides, a sweep's files, an annotation file, or settings. It goes through the
command that reads it, in this process. A traceback, a second line, or a status other than 0, 1 or 2
ends the run, with the smallest such input that hypothesis finds.
"""

import argparse
import ast
import contextlib
import copy
import functools
import io
import json
import os
import random
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from PIL import Image

from ablations.commands import status, sweep
from ablations.shipped import configs_folder
from ablations.store.files import read_json, write_json
from ablations.store.lease import lease_owner
from ablations.store.manifest import Entry, Manifest, trial_folder, write_manifest
from ablations.store.record import RECORD, Record, write_record
from ablations.store.states import sweep_states
from ablations.store.status import STATUS
from ablations.sweep import cli
from ablations.sweep.dataset import check_data
from ablations.sweep.errors import UsageError
from ablations.sweep.grid import read_grid
from ablations.sweep.launchers.slurm.launcher import SlurmLauncher
from ablations.sweep.launchers.slurm.settings import load_settings
from ablations.sweep.option_types import value_at
from ablations.sweep.plan import load_config, parse_options
from ablations.sweep.reuse import read_sources
from benchmarks import reliability

Draw = Callable[..., Any]

_TEXT = st.text(max_size=12)
_SCALAR = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    _TEXT,
    st.sampled_from(["", "$gamma", "..", "a.b", "=", "None", "1e400", "-1", "\n", "'", "\x00"]),
)
_NAMES = ["type", "$by", "id"]
_VALUE = st.recursive(
    _SCALAR,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.one_of(_TEXT, st.sampled_from(["type", "$by", "id"])), inner, max_size=3
        ),
    ),
    max_leaves=6,
)


class BrokenError(AssertionError):
    """An input that ended in something else than a result or one line."""


def run(main: Callable[[list[str]], int], *arguments: str) -> str:
    """Call a command; ``accepted`` or ``refused``.

    Raises:
        BrokenError: it did anything else.
    """
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code: object = main(list(arguments))
        except SystemExit as ended:
            code = ended.code
    errors = [line for line in err.getvalue().splitlines() if "error:" in line]
    rest = [line for line in err.getvalue().splitlines() if not line.startswith(("usage:", " "))]
    if code not in (0, 1, 2) or (code == 2) != (len(errors) == 1) or rest != errors:
        raise BrokenError(f"status {code}, {err.getvalue()!r}, for {arguments}")
    return "refused" if code == 2 else "accepted"


@contextlib.contextmanager
def prepared() -> Iterator[Path]:
    """A folder for the inputs. What all of them share (the config, a grid) is read once."""
    config = functools.cache(load_config)
    grid = functools.cache(read_grid)

    def known(name: str) -> tuple[str, dict[str, Any]]:
        return copy.deepcopy(grid(name)) if name == "gamma_fl" else read_grid(name)

    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.object(cli, "load_config", config),
        mock.patch.object(cli, "read_grid", known),
        mock.patch.dict(os.environ, {"WANDB_MODE": "offline", "CUDA_VISIBLE_DEVICES": ""}),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        yield Path(folder)


def changed(draw: Draw, value: Any) -> Any:
    """``value`` with one of its parts replaced, removed, doubled or renamed."""
    if isinstance(value, dict) and value:
        key = draw(st.sampled_from(sorted(value, key=str)))
        kind = draw(st.sampled_from(["within", "within", "replace", "remove", "rename"]))
        rest = {name: item for name, item in value.items() if name != key}
        if kind == "within":
            return value | {key: changed(draw, value[key])}
        if kind == "rename":
            return rest | {draw(_TEXT): value[key]}
        return rest if kind == "remove" else value | {key: draw(_VALUE)}
    if isinstance(value, list) and value:
        place = draw(st.integers(0, len(value) - 1))
        kind = draw(st.sampled_from(["within", "within", "remove", "double"]))
        middle = {
            "within": lambda: [changed(draw, value[place])],
            "remove": list,
            "double": lambda: [value[place]] * 2,
        }[kind]()
        return value[:place] + middle + value[place + 1 :]
    return draw(_VALUE)


def damaged(draw: Draw, text: bytes) -> bytes:
    """``text`` cut off, or with some bytes replaced."""
    place = draw(st.integers(0, len(text)))
    put = draw(st.binary(max_size=4))
    return text[:place] + put + draw(st.sampled_from([b"", text[place:], text[place + len(put) :]]))


def write_changed(draw: Draw, path: Path, value: Any) -> None:
    """A value as JSON with a change or two, or its bytes damaged."""
    for _ in range(draw(st.integers(0, 2))):
        value = changed(draw, value)
    data = json.dumps(value).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(damaged(draw, data) if draw(st.integers(0, 3)) == 0 else data)


# ---------------------------------------------------------------------------------- the inputs


def grids(draw: Draw, folder: Path) -> str:
    """A shipped grid with changes, or a file of anything."""
    names = sorted(path.stem for path in (configs_folder() / "grids").glob("*.py"))
    spec = _shipped_grid(draw(st.sampled_from(names)))
    for _ in range(draw(st.integers(0, 2))):
        spec = changed(draw, spec)
    keys = [key for key in spec if isinstance(key, str) and key.isidentifier()]
    text = "\n".join(f"{key} = {spec[key]!r}" for key in keys).replace("inf", "1e999")
    data = text.encode(errors="replace")
    if draw(st.integers(0, 9)) == 0:
        data = damaged(draw, data)
        try:
            ast.literal_eval(data.decode().partition("=")[2] or "0")
        except (ValueError, SyntaxError, UnicodeDecodeError, MemoryError, RecursionError):
            data = data.replace(b"(", b"[")  # a grid is code: let none of it be a call
    (folder / "grid.py").write_bytes(data)
    return run(sweep.main, "--grid", str(folder / "grid.py"), "--dry-run", "--json")


@functools.cache
def _shipped_grid(name: str) -> dict[str, Any]:
    return read_grid(name)[1]


@functools.cache
def load_config_once() -> dict[str, Any]:
    """The default config."""
    return load_config(cli.DEFAULT_CONFIG)


@functools.cache
def _paths() -> list[str]:
    """Every path of the default config."""
    found = []

    def walk(node: Any, path: str) -> None:
        items = node.items() if isinstance(node, dict) else enumerate(node)
        for key, value in items:
            found.append(f"{path}{key}")
            if isinstance(value, dict | list | tuple):
                walk(value, f"{path}{key}.")

    walk(load_config_once(), "")
    return found


def overrides(draw: Draw, folder: Path) -> str:
    """``--cfg-options`` for paths that exist or nearly do, and other flags with any value."""
    flags = ["--grid", "gamma_fl", "--dry-run", "--work-dir", str(folder / "new")]
    pairs = []
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(_paths()))
        if draw(st.integers(0, 3)) == 0:
            path = draw(st.one_of(_TEXT, st.just(path[:-1]), st.just(f"{path}.x"), st.just(".")))
        value = value_at(load_config_once(), path)
        if draw(st.booleans()):
            value = draw(_VALUE)
        text = value if isinstance(value, str) else repr(value)
        pairs.append(f"{path}{draw(st.sampled_from(['=', '=', '=', '=', '', '==']))}{text}")
    flags += ["--cfg-options", *(pair for pair in pairs if not pair.startswith("-"))]
    if draw(st.integers(0, 4)) == 0:
        flag = draw(st.sampled_from(["--seeds", "--gpus-per-trial", "--workers", "--reuse"]))
        flags += [flag, draw(st.one_of(_TEXT, st.integers().map(str), st.just("3")))]
    if draw(st.booleans()):
        flags.append("--smoke")
    return run(sweep.main, *flags)


def records(draw: Draw, folder: Path) -> str:
    """The files of a sweep, one of them changed, through ``status`` and the readers."""
    work_dir = Path(tempfile.mkdtemp(dir=folder)) / "work"
    entry = Entry("0123456789ab", {"gamma": 2.0}, "gamma=2", 0)
    own = trial_folder(work_dir, entry.id)
    own.mkdir(parents=True)
    command = {"command": "python runners/sweep.py", "started": "2026-01-01", "machine": "x"}
    grid = {"name": "g", "title": "g", "table": None, "note": "", "baseline": None}
    write_manifest(work_dir, Manifest("work", grid, "c.py", {}, [command], [entry]))
    record = Record(
        entry.id, "work", entry.point, entry.label, 0, "finished", metrics={"AP": 1.0, "AP_L": None}
    )
    write_record(own, record)
    state = {"state": "training", "reason": None, "iteration": 3, "iterations": 9, "loss": 0.5}
    write_json(own / STATUS, state | {"iteration_s": 0.1, "attempts": [{"started": "2026-01-01"}]})
    write_json(own / "trial.json", {"id": entry.id, "identity": {}})
    write_json(own / "lease.json", {"host": "h", "pid": 1, "boot": "b", "token": "t"})
    write_json(work_dir / "slurm.json", {})
    name = draw(st.sampled_from([RECORD, STATUS, "lease.json", "manifest.json", "submission"]))
    path = work_dir / name if name == "manifest.json" else own / name
    if name == "submission":
        path = work_dir / "slurm" / "submission-1.json"
        value: Any = {"jobs": ["7"], "trials": [entry.id], "size": 1, "settled": True}
    else:
        value = read_json(path)
    if name in (STATUS, "lease.json"):
        (own / RECORD).unlink()  # or they are not read
    write_changed(draw, path, value)
    outcome = run(status.main, str(work_dir))
    lease_owner(own)
    with contextlib.suppress(ValueError):
        sweep_states(work_dir)
    with contextlib.suppress(UsageError):
        read_sources([work_dir])
    return outcome


def annotations(draw: Draw, folder: Path) -> str:
    """A file in COCO format, changed."""
    images = folder / "images"
    if not images.is_dir():
        images.mkdir()
        for number in (1, 2):
            Image.new("RGB", (8, 8)).save(images / f"{number}.png")
    content = {
        "images": [
            {"id": number, "file_name": f"{number}.png", "width": 8, "height": 8}
            for number in (1, 2)
        ],
        "annotations": [
            {
                **{"id": number, "image_id": number, "category_id": 1, "iscrowd": 0},
                **{"bbox": [1, 1, 4, 4], "area": 16},
            }
            for number in (1, 2)
        ],
        "categories": [{"id": 1, "name": "cat"}],
    }
    write_changed(draw, folder / "annotations.json", content)
    dataset = {
        **{"type": "CocoDataset", "data_root": str(folder), "ann_file": "annotations.json"},
        **{"data_prefix": {"img": "images"}, "metainfo": {"classes": ["cat"]}},
    }
    loader = {"dataset": dataset}
    answer = check_data({"train_dataloader": loader, "val_dataloader": loader})
    lines = [*answer["errors"], *answer["notes"]]
    if bad := [line for line in lines if not isinstance(line, str) or len(line.splitlines()) != 1]:
        raise BrokenError(repr(bad))
    return "refused" if answer["errors"] else "accepted"


_OPTIONS = {"array", "cpus-per-task", "exclusive", "gpus-per-node", "job-name", "mem", "nodes"}
_OPTIONS |= {"ntasks-per-node", "open-mode", "output", "partition", "requeue", "signal", "time"}

_VARIABLES = (
    *("WANDB_MODE", "WANDB_PROJECT", "WANDB_ENTITY", "WANDB_API_KEY", "WANDB_TAGS"),
    *("WANDB_BASE_URL", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS"),
)


def slurm_settings(draw: Draw, folder: Path) -> str:
    """``slurm.toml`` and ``--slurm``, up to the request that would be submitted."""
    lines = []
    valid: dict[str, Any] = {"time": "1:00:00", "mem": "4GB", "nodes": 1, "partition": "gpu"}
    valid |= {"setup": ["true"], "extra": ["--exclusive"], "signal_seconds": 90, "requeues": 2}
    for key in draw(st.lists(st.sampled_from(sorted(valid)), unique=True, max_size=4)):
        value = valid[key] if draw(st.integers(0, 2)) else draw(_VALUE)
        with contextlib.suppress(ValueError):
            lines.append(f"{key} = {json.dumps(value, allow_nan=False)}")
    data = "\n".join(lines).encode()
    path = folder / "slurm.toml"
    path.write_bytes(damaged(draw, data) if draw(st.integers(0, 4)) == 0 else data)
    key = draw(st.one_of(st.sampled_from(sorted(valid)), _TEXT))
    pair = f"{key}={draw(st.one_of(_TEXT, st.sampled_from(['2-0', '1:2:3', '0', '-1', '1-1-1'])))}"
    try:
        found = load_settings(path, parse_options([pair], "--slurm"))
    except UsageError as error:
        if len(str(error).splitlines()) != 1:
            raise BrokenError(repr(str(error))) from error
        return "refused"
    _check_request(SlurmLauncher(found), folder)
    return "accepted"


def _check_request(launcher: SlurmLauncher, folder: Path) -> None:
    """A request has options, then what the user wants to run; no setting adds a line to it."""
    from ablations.sweep.launchers.launcher import Launch

    launch = Launch(folder / "work", [], "a:b")
    with mock.patch("shutil.which", return_value="/bin/true"):
        try:
            array = launcher._array(launch, folder / "submission-1.json")
        except UsageError:  # processes cannot be spread over the nodes
            return
        text = array._make_submission_file_text("true", "check")
    head = text.partition("# setup")[0].splitlines()
    options = {line.partition("=")[0].removeprefix("#SBATCH --") for line in head[3:] if line}
    if not options <= _OPTIONS:
        raise BrokenError(f"{options - _OPTIONS} in {text!r}")


_SETTINGS = ["", "0", "0,1", "-1", "NoDevFiles", "2", "mine", "a\n", "http://x", "a,b"]


def environment(draw: Draw, folder: Path) -> str:
    """Any values of the environment variables that are read."""
    letters = st.characters(exclude_characters="\x00", exclude_categories=["Cs"])
    value = st.one_of(st.sampled_from(_SETTINGS), st.text(letters, max_size=9))
    values = draw(st.dictionaries(st.sampled_from(_VARIABLES), value, max_size=2))
    flags = ("--grid", "gamma_fl", "--dry-run", "--work-dir", str(folder / "new"))
    with mock.patch.dict(os.environ, values):
        return run(sweep.main, *flags)


TARGETS: dict[str, Callable[[Draw, Path], str]] = {
    "grids": grids,
    "overrides": overrides,
    "files of a sweep": records,
    "annotation files": annotations,
    "Slurm settings": slurm_settings,
    "environment variables": environment,
}


def fuzz(target: Callable[[Draw, Path], str], inputs: int, number: int) -> Counter[str]:
    """Try ``inputs`` inputs; how many were accepted and refused.

    Args:
        target: makes an input and gives it to its reader.
        inputs: how many.
        number: of the random generator; the same number makes the same inputs.

    Raises:
        Exception: whatever the smallest input raises that is neither accepted nor refused.
    """
    counts: Counter[str] = Counter()
    with prepared() as folder:

        @seed(number)
        @settings(
            max_examples=inputs,
            deadline=None,
            database=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        )
        @given(st.data())
        def one(data: st.DataObject) -> None:
            counts[target(data.draw, folder)] += 1

        one()
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=10_000, help="over all kinds")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--only", choices=TARGETS, help="one kind of input")
    parser.add_argument("--no-page", action="store_true", help="leave reports/reliability.md")
    options = parser.parse_args()
    print(f"seed {options.seed}", file=sys.stderr, flush=True)
    targets = {options.only: TARGETS[options.only]} if options.only else TARGETS
    share = -(-options.inputs // len(targets))
    start = time.monotonic()
    rows: dict[str, object] = {}
    tried = 0
    for name, target in targets.items():
        counts = fuzz(target, share, options.seed)
        tried += sum(counts.values())
        rows[name] = f"{counts['accepted']:,} accepted, {counts['refused']:,} refused"
        print(f"{name}: {rows[name]}", file=sys.stderr, flush=True)
    seconds = round(time.monotonic() - start)
    rows = {"inputs tried": tried, **rows, "tracebacks": 0, "seconds": seconds}
    rows["seed"] = str(options.seed)
    if not options.no_page and not options.only:
        reliability.write("fuzz", rows)


if __name__ == "__main__":
    main()
