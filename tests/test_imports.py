"""Data flows one way: who may import whom, held for every module of the package."""

import ast
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "ablations"

# Part -> what its modules must never import. The first pattern that fits a module counts.
TORCH = {"torch", "torchvision", "triton"}
OPENMMLAB = {"mmdet", "mmcv", "mmengine"}
RULES = {
    "losses/triton_kernel.py": {"mmdet", "mmcv", "mmengine", "pandas", "wandb"},
    "losses/functional.py": {*OPENMMLAB, "pandas", "wandb", "triton"},
    "losses/curves.py": {*OPENMMLAB, "pandas", "wandb", "triton"},
    "losses/fused.py": {*OPENMMLAB, "pandas", "wandb", "triton"},
    "losses/native.py": {*OPENMMLAB, "pandas", "wandb", "triton"},
    "losses/*": {"pandas", "wandb", "ablations.sweep", "ablations.training"},
    "data/*": {*TORCH, *OPENMMLAB, "ablations.losses", "ablations.sweep", "ablations.training"},
    "sweep/*": {*TORCH, "mmdet", "mmcv", "wandb", "pandas", "ablations.losses"},
    "training/*": {"pandas", "matplotlib"},
    "analysis/*": {*TORCH, *OPENMMLAB, "wandb", "ablations.losses", "ablations.training"},
    "reporting/*": {*TORCH, *OPENMMLAB, "ablations.losses", "ablations.training"},
}
BEHIND = {"ablations.analysis", "ablations.reporting"}
"""What stands behind the waist: nothing before it may import these."""

MODULES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Every module that a file imports, wherever the import stands, with its parents."""
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
    if module.parts[0] in ("losses", "data", "sweep", "training"):
        never = never | BEHIND
    if module.parts[0] == "analysis":
        never = never | {"ablations.reporting"}
    assert not found & never


def test_wandb_is_imported_in_the_modules_made_for_it() -> None:
    found = {str(m) for m in MODULES if "wandb" in imported(PACKAGE / m)}
    assert all("wandb" in Path(name).name for name in found), found


def test_submitit_is_known_to_one_module() -> None:
    found = [str(m) for m in MODULES if "submitit" in imported(PACKAGE / m)]
    assert found == ["sweep/slurm.py"]


def test_importing_the_package_is_cheap() -> None:
    code = "import sys, ablations; print(len(sys.modules)); assert 'numpy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_runners_are_thin() -> None:
    for path in (PACKAGE.parent / "runners").glob("*.py"):
        assert len(path.read_text().splitlines()) < 100, path
