"""What `pip install` of the project gives: commands, configs and grids for any folder."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as `pip install --target` would fill it, without the dependencies."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"  # a copy: setuptools leaves its build folder in the source
    skip = shutil.ignore_patterns("__pycache__")
    for name in ("ablations", "configs"):
        shutil.copytree(REPOSITORY / name, source / name, ignore=skip)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, source)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet"]
    flags = ["--no-deps", "--no-build-isolation", "--wheel-dir", str(folder)]
    subprocess.run([*pip, *flags, str(source)], check=True)
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        wheel.extractall(folder / "site")
    shutil.rmtree(source)
    return folder / "site"


def run(site: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_wheel_holds_every_module_config_and_grid(site: Path) -> None:
    shipped = {path.relative_to(site / "ablations") for path in site.glob("ablations/**/*.*")}
    modules = {path.relative_to(REPOSITORY / "ablations") for path in _files("ablations")}
    configs = {"configs" / path.relative_to(REPOSITORY / "configs") for path in _files("configs")}
    assert len(modules) > 80 and len(configs) > 15
    assert modules | configs <= shipped


def _files(folder: str) -> list[Path]:
    found = (REPOSITORY / folder).rglob("*.*")
    return [path for path in found if path.is_file() and "__pycache__" not in path.parts]


def test_the_wheel_declares_the_command(site: Path) -> None:
    entry_points = next(site.glob("*.dist-info/entry_points.txt")).read_text()
    assert "ablate = ablations.commands.__main__:main" in entry_points


def test_a_grid_is_planned_from_an_empty_folder(site: Path, tmp_path: Path) -> None:
    where = run(site, tmp_path, "-c", "import ablations; print(ablations.__file__)")
    assert Path(where.stdout.strip()).is_relative_to(site)
    flags = ["--grid", "gamma_alpha", "--dry-run", "--json"]
    done = run(site, tmp_path, "-m", "ablations.commands", "sweep", *flags)
    assert done.returncode == 0, done.stderr
    here = [sys.executable, str(REPOSITORY / "runners" / "sweep.py"), *flags]
    expected = subprocess.run(here, capture_output=True, text=True, check=True, cwd=REPOSITORY)
    ids = [
        [trial["id"] for trial in json.loads(out)["trials"]]
        for out in (done.stdout, expected.stdout)
    ]
    assert ids[0] == ids[1] and len(ids[0]) == 16
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["sweep", "report", "status", "trial"])
def test_every_command_explains_itself(site: Path, tmp_path: Path, command: str) -> None:
    done = run(site, tmp_path, "-m", "ablations.commands", command, "--help")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: ablate {command}")


def test_the_shipped_slurm_settings_are_read_unless_the_folder_has_its_own(
    site: Path, tmp_path: Path
) -> None:
    code = """
from ablations.sweep import cli
args = cli.parse(["--grid", "gamma_alpha", "--launcher", "slurm"])
entry_points = type("E", (), {"check_planned": ""})
print(cli.make_launcher(args, entry_points, ()).settings.cpus_per_process)
"""
    assert run(site, tmp_path, "-c", code).stdout.strip() == "4"
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "slurm.toml").write_text("cpus_per_process = 7")
    assert run(site, tmp_path, "-c", code).stdout.strip() == "7"


def test_an_installed_package_claims_no_commit_of_the_checkout_around_it(
    site: Path, tmp_path: Path
) -> None:
    own = tmp_path / "project" / "site"
    shutil.copytree(site / "ablations" / "training", own / "ablations" / "training")
    who = ["-c", "user.name=somebody", "-c", "user.email=somebody@example.org"]
    git = ["git", "-C", str(tmp_path / "project"), *who]
    subprocess.run([*git, "init", "--quiet"], check=True)
    subprocess.run([*git, "commit", "--quiet", "--allow-empty", "-m", "theirs"], check=True)
    code = "import runpy, sys;print(runpy.run_path(sys.argv[1])['code_state']())"
    path = own / "ablations" / "training" / "code.py"
    assert run(site, tmp_path, "-c", code, str(path)).stdout.strip() == "{}"
