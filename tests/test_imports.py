"""Data flows one way: tests who may import whom, for every module of the package."""

import ast
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "ablations"

TORCH = {"torch", "torchvision", "triton"}
OPENMMLAB = {"mmdet", "mmcv", "mmengine"}
OURS = {
    f"ablations.{part}"
    for part in (
        *(
            "analysis",
            "commands",
            "data",
            "losses",
            "machine",
            "reporting",
            "shipped",
            "store",
            "sweep",
        ),
        "training",
    )
}
FORMULAS = {*OPENMMLAB, "pandas", "wandb", "triton", *OURS - {"ablations.losses"}}


def only(*mine: str) -> set[str]:
    """All parts of the package but some."""
    return OURS - {f"ablations.{part}" for part in mine}


# Part -> what its modules must never import. The first pattern that matches a module counts.
RULES = {
    "machine.py": {*TORCH, *OPENMMLAB, "wandb", "pandas", "numpy", *only("machine")},
    "shipped.py": {*TORCH, *OPENMMLAB, "wandb", "pandas", "numpy", *only("shipped")},
    "store/*": {*TORCH, *OPENMMLAB, "wandb", "pandas", *only("store")},
    "data/*": {*TORCH, *OPENMMLAB, "wandb", "pandas", *only("data")},
    "losses/triton_kernel.py": FORMULAS - {"triton"},
    "losses/functional.py": FORMULAS,
    "losses/formulas.py": FORMULAS,
    "losses/pairs.py": FORMULAS,
    "losses/fused.py": FORMULAS,
    "losses/chunked.py": FORMULAS,
    "losses/dense.py": FORMULAS,
    "losses/native.py": FORMULAS,
    "losses/*": {"pandas", "wandb", *only("losses")},
    "sweep/*": {
        *TORCH,
        "mmdet",
        "mmcv",
        "wandb",
        "pandas",
        *only("sweep", "store", "machine", "shipped", "data"),
    },
    "training/*": {"pandas", "matplotlib", *only("training", "losses", "data", "store", "machine")},
    "analysis/*": {*TORCH, *OPENMMLAB, "wandb", *only("analysis", "store")},
    "reporting/*": {*TORCH, *OPENMMLAB, *only("reporting", "analysis", "store")},
}

MODULES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Every module that a file imports, also within functions, with its parent packages."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    parts = [name.split(".") for name in names]
    return {".".join(part[: i + 1]) for part in parts for i in range(len(part))}


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_a_module_imports_only_what_its_part_may(module: Path) -> None:
    found = imported(PACKAGE / module)
    never: set[str] = next(
        (rule for pattern, rule in RULES.items() if fnmatch(str(module), pattern)), set()
    )
    assert not found & never


def test_every_part_has_a_rule() -> None:
    parts = {module.parts[0] for module in MODULES} - {"__init__.py", "commands"}
    assert parts == {pattern.split("/")[0] for pattern in RULES}
    assert {f"ablations.{part.removesuffix('.py')}" for part in parts} == OURS - {
        "ablations.commands"
    }


def test_no_modules_import_each_other() -> None:
    """There is no circle of imports, also not of those within functions."""
    names = {".".join(("ablations", *module.with_suffix("").parts)): module for module in MODULES}
    below = {
        name: imported(PACKAGE / module) & set(names) - {name} for name, module in names.items()
    }
    while below:
        free = {name for name, needs in below.items() if not needs}
        assert free, f"a circle among {sorted(below)}"
        below = {name: needs - free for name, needs in below.items() if name not in free}


def test_importing_a_module_has_no_effects() -> None:
    """An import sets no signal handler and no exit code, and starts no process and no thread."""
    code = """
import importlib, signal, subprocess, sys, threading
def refuse(*args, **kwargs):
    raise AssertionError(f"an import started {args}")
before = {number: signal.getsignal(number) for number in signal.valid_signals()}
import mmdet.registry, mmcv.ops, wandb, pandas, numpy.testing  # not tested
subprocess.Popen.__init__ = refuse
for name in sys.argv[1:]:
    importlib.import_module(name)
    after = {number: signal.getsignal(number) for number in signal.valid_signals()}
    assert after == before, name
    assert threading.active_count() == 1, name
sys.exit(7)
"""
    names = [
        ".".join(("ablations", *module.with_suffix("").parts)).removesuffix(".__init__")
        for module in MODULES
        if module.name not in ("triton_kernel.py", "__main__.py")
    ]
    done = subprocess.run(
        [sys.executable, "-c", code, *names], capture_output=True, text=True, check=False
    )
    assert done.returncode == 7, done.stderr[-2000:]


def test_wandb_is_imported_in_the_modules_made_for_it() -> None:
    found = {str(m) for m in MODULES if "wandb" in imported(PACKAGE / m)}
    assert all("wandb" in Path(name).name for name in found), found


def test_submitit_is_known_to_one_folder() -> None:
    found = {str(m.parent) for m in MODULES if "submitit" in imported(PACKAGE / m)}
    assert found == {"sweep/launchers/slurm"}


def test_importing_the_package_is_cheap() -> None:
    code = "import sys, ablations; print(len(sys.modules)); assert 'numpy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_runners_are_thin() -> None:
    for path in (PACKAGE.parent / "runners").glob("*.py"):
        assert len(path.read_text().splitlines()) < 100, path
