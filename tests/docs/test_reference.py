"""``docs/reference.md`` names every flag, setting, key and variable of the code, and no other."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from ablations.commands import report, status, trial
from ablations.sweep import cli, grid
from ablations.sweep.launchers.slurm.settings import Settings

REPOSITORY = Path(__file__).parents[2]
PAGE = (REPOSITORY / "docs" / "reference.md").read_text()

# Keys of OpenMMLab that the shipped configs set, and names that are only used inside their file.
OPENMMLAB_KEYS = {
    *("model", "train_dataloader", "val_dataloader", "test_dataloader", "val_evaluator"),
    *("test_evaluator", "train_cfg", "val_cfg", "test_cfg", "optim_wrapper", "param_scheduler"),
    *("auto_scale_lr", "custom_imports", "default_scope", "default_hooks", "custom_hooks"),
    *("env_cfg", "visualizer", "log_processor", "log_level", "load_from", "resume", "randomness"),
}
FILES_OWN = {
    *("norm", "max_iters", "warmup", "metainfo", "classes", "scale"),
    *("train_pipeline", "test_pipeline"),
}

VARIABLE = re.compile(
    r"(WANDB|SLURM|CUDA|OMP|MKL|OPENBLAS|NUMEXPR|MASTER|ABLATIONS|PYTORCH|XDG|LOCAL|WORLD)(_[A-Z]+)+|RANK"
)


def tables(title: str, page: str = PAGE) -> list[list[list[str]]]:
    """The tables of a section; a table is its rows, a row its cells."""
    (section,) = re.findall(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", page, re.M | re.S)
    found = re.findall(r"^\|.*?\|\n\|[-|]+\|\n((?:\|.*\|\n?)+)", section, re.M)
    return [
        [[cell.strip() for cell in line[1:-1].split("|")] for line in rows.splitlines()]
        for rows in found
    ]


def names(rows: list[list[str]], column: int = 0) -> set[str]:
    """What stands in backticks in a column."""
    return {name for row in rows for name in re.findall(r"`([^`]+)`", row[column])}


@pytest.mark.parametrize(
    ("command", "parse"),
    [
        ("sweep", cli.parse),
        ("report", report.parse),
        ("status", status.main),
        ("trial", trial.main),
    ],
)
def test_flags(command: str, parse, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit, match="0"):
        parse(["--help"])
    flags = set(re.findall(r"--[a-z][a-z-]+", capsys.readouterr().out)) - {"--help"}
    found = tables(command)
    assert names(found[0] if found else []) == flags


def test_slurm_settings() -> None:
    assert names(tables("Slurm settings")[0]) == set(Settings.__dataclass_fields__)


def test_grid_keys() -> None:
    keys, block = tables("Grid files")
    assert names(keys) == grid._KEYS
    assert names(block) == {*grid._LISTINGS, "set"}


def test_config_keys() -> None:
    ours: set[str] = set()
    for path in (REPOSITORY / "configs").glob("**/*.py"):
        if path.parent.name != "grids":
            body = ast.parse(path.read_text()).body
            targets = [
                target for node in body if isinstance(node, ast.Assign) for target in node.targets
            ]
            ours |= {target.id for target in targets if isinstance(target, ast.Name)}
    ours = {name for name in ours if not name.startswith("_")} - OPENMMLAB_KEYS - FILES_OWN
    assert names(tables("Config keys")[0]) == ours


def test_registered_types_and_their_options() -> None:
    documented: dict[str, set[str]] = {}
    kind = ""
    for row in tables("Config keys")[1]:
        kind = row[0].strip("`") or kind
        documented.setdefault(kind, set()).update(re.findall(r"`(\w+)`", row[1]))
    documented["BoxAP"].discard("collect_dir")  # mmengine's, which a trial sets
    assert documented == dict(_registered())


def _registered() -> Iterator[tuple[str, set[str]]]:
    """Every class that is registered for configs, with the parameters that are its own."""
    for path in (REPOSITORY / "ablations").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and any(
                "register_module" in ast.unparse(decorator) for decorator in node.decorator_list
            ):
                makers = [f for f in node.body if getattr(f, "name", "") == "__init__"]
                signatures = [maker.args for maker in makers if isinstance(maker, ast.FunctionDef)]
                found = {a.arg for s in signatures for a in (*s.args, *s.kwonlyargs)}
                yield node.name, found - {"self"}


def test_environment_variables() -> None:
    found: set[str] = set()
    for folder in ("ablations", "runners"):
        for path in (REPOSITORY / folder).rglob("*.py"):
            found |= set(_variables(ast.parse(path.read_text())))
    assert names(tables("Environment variables")[0]) == found


def _variables(tree: ast.AST) -> Iterator[str]:
    """Names that are looked up in ``os.environ``, and texts that look like variables."""
    for node in ast.walk(tree):
        key: ast.AST | None = None
        if isinstance(node, ast.Subscript) and ast.unparse(node.value) == "os.environ":
            key = node.slice
        elif isinstance(node, ast.Call) and ast.unparse(node.func).startswith("os.environ."):
            key = node.args[0] if node.args else None
        elif isinstance(node, ast.Constant):
            key = node if VARIABLE.fullmatch(str(node.value)) else None
        if isinstance(key, ast.Constant):
            yield str(key.value)


def test_make_variables() -> None:
    set_there = re.findall(r"^(\w+) \?=", (REPOSITORY / "Makefile").read_text(), re.M)
    assert names([[row[0]] for row in tables("Variables of `make`")[0]]) == set(set_there)
