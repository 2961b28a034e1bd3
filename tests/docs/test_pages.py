"""Every link of the markdown files leads somewhere, and every example in them runs."""

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from ablations.commands import report, status, sweep
from ablations.losses.registry import LOSSES
from ablations.sweep import cli
from ablations.sweep.launchers.slurm.settings import load_settings
from ablations.sweep.plan import parse_options
from ablations.sweep.work_dir import write_sweep
from ablations.training.preflight import check_configs
from tests.helpers.fabricated import fabricate

REPOSITORY = Path(__file__).parents[2]
README, CONTRIBUTING = REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md"
WRITTEN = [README, CONTRIBUTING, *sorted((REPOSITORY / "docs").glob("*.md"))]
PAGES = sorted(
    {
        *REPOSITORY.glob("*.md"),
        *(REPOSITORY / "docs").glob("*.md"),
        *(REPOSITORY / "configs").rglob("*.md"),
        *(REPOSITORY / "reports" / "published").rglob("*.md"),
        *(REPOSITORY / "reports" / "benchmarks").rglob("*.md"),
    }
)
FOLDERS = (
    "ablations|benchmarks|configs|docs|environment|runners|tests|reports/(?:published|benchmarks)"
)


def prose(page: Path) -> str:
    """A page's text without its blocks of code."""
    return re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)


def slugs(page: Path) -> set[str]:
    """The anchors that GitHub gives a page's headings."""
    headings = re.findall(r"^#+ +(.*?) *$", prose(page), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_links(page: Path) -> None:
    wrong = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", target):
            continue  # a web address
        file, _, anchor = target.partition("#")
        path = (page.parent / file).resolve() if file else page
        if not path.exists() or (anchor and anchor not in slugs(path)):
            wrong.append(target)
    assert wrong == []


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: page.name)
def test_files_that_are_named_exist(page: Path) -> None:
    named = re.findall(rf"`((?:{FOLDERS})/[\w./-]*)`", page.read_text())
    assert [name for name in named if not (REPOSITORY / name).exists()] == []


def test_the_readme_is_short() -> None:
    assert len(README.read_text().splitlines()) <= 120


def blocks(kind: str) -> Iterator[tuple[Path, str]]:
    for page in WRITTEN:
        for text in re.findall(rf"^```{kind}\n(.*?)^```", page.read_text(), re.M | re.S):
            yield page, text


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder: the example files, the shipped configs, and two sweeps that were begun."""
    home = tmp_path_factory.mktemp("user")
    (home / "configs").symlink_to(REPOSITORY / "configs")
    for _, text in blocks("python"):
        if name := re.match(r"# (\w+\.py)\n", text):
            (home / name[1]).write_text(text)
    annotations = home / "val.json"
    annotations.write_text("{}")
    part = {"file": str(annotations), "annotations": "0"}
    coco = ["--config", "configs/retinanet_r50_coco_600.py", "--gpus-per-trial", "8"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        for flags in ([], coco):
            request = cli.resolve(cli.parse(["--grid", "gamma_alpha", *flags, "--dry-run"]))
            write_sweep(request, {"train": part, "val": part}, ["the command"])
    return home


def commands() -> list[tuple[str, str]]:
    """Every line of the shell examples with the page it is from."""
    found = []
    for page, text in blocks("sh"):
        for line in text.replace("\\\n", " ").splitlines():
            if command := " ".join(shlex.split(line, comments=True, posix=False)):
                found.append((page.name, command))
    return found


@pytest.mark.parametrize(("page", "command"), commands())
def test_shell_examples(page: str, command: str, folder: Path, monkeypatch, capsys) -> None:
    """Sweeps are planned, other commands are parsed or run where that costs nothing."""
    monkeypatch.chdir(folder)
    words = shlex.split(command)
    if words[0] == "make":
        targets = re.findall(r"^([\w-]+):", (REPOSITORY / "Makefile").read_text(), re.M)
        assert [word for word in words[1:] if "=" not in word and word not in targets] == []
    elif words[:2] == ["python", "runners/sweep.py"]:
        flags = [*words[2:], "--dry-run"]
        assert sweep.main(flags) == 0
        options = parse_options(cli.parse(flags).slurm, "--slurm")
        load_settings(REPOSITORY / "configs" / "slurm.toml", options)
        assert "trials to run" in capsys.readouterr().out
    elif words[:2] == ["python", "runners/report.py"]:
        assert report.parse(words[2:]).work_dirs
    elif words[:2] == ["python", "runners/status.py"]:
        assert status.main(words[2:]) == (0 if "--cancel" in words else 1)
    elif words[:3] == ["python", "-m", "pytest"]:
        file, name = words[3].split("::")
        assert f"def {name}(" in (REPOSITORY / file).read_text()
    elif words[:2] == ["python", "-m"]:
        assert importlib.util.find_spec(words[2])
    elif words[0] == "pip":
        assert words[1] in ("install", "uninstall")
    elif "wandb" in words:
        from wandb.cli.cli import cli as wandb_cli

        assert words[words.index("wandb") + 1] in wandb_cli.commands
    else:
        pytest.fail(f"{page}: no way to try {command!r}")


@pytest.fixture
def own_loss(folder: Path, monkeypatch):
    """The example files, with the loss registered as long as the test runs."""
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    yield
    sys.modules.pop("my_loss", None)
    LOSSES._module_dict.pop("GeneralizedCrossEntropyLoss", None)


def test_a_loss_of_your_own_is_built_and_differentiated(own_loss) -> None:
    request = cli.resolve(cli.parse(["--grid", "my_grid.py", "--config", "my_config.py"]))
    assert check_configs([trial.config for trial in request.trials]) == []
    loss = LOSSES.build({"type": "ablations.GeneralizedCrossEntropyLoss", "q": 0.3})
    logits = torch.tensor([[-100.0], [-2.0], [0.5], [100.0]], requires_grad=True)
    (gradient,) = torch.autograd.grad(loss(logits, torch.tensor([0, 0, 1, 1])), logits)
    # d/dx of (1 - p^q) / q is -p^q (1 - p) for a positive, and the mirror image for a negative.
    p = torch.sigmoid(logits.detach().double() * torch.tensor([[1.0], [1.0], [-1.0], [-1.0]]))
    expected = -(p**0.3) * (1 - p) * torch.tensor([[1.0], [1.0], [-1.0], [-1.0]]) / 4
    torch.testing.assert_close(gradient.double(), expected, rtol=1e-5, atol=1e-12)


@pytest.mark.slow  # minutes: it trains
def test_a_loss_of_your_own_trains(folder: Path, digits: Path) -> None:
    (folder / "data").symlink_to(digits.parent)
    flags = ["--grid", "my_grid.py", "--config", "my_config.py", "--smoke", "--no-report"]
    done = subprocess.run(
        [sys.executable, str(REPOSITORY / "runners" / "sweep.py"), *flags],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY), "WANDB_MODE": "disabled"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 finished" in done.stdout


def test_the_notebook_example(tmp_path: Path, monkeypatch) -> None:
    examples = [text for _, text in blocks("python") if not text.startswith("# ")]
    assert len(examples) == 1
    monkeypatch.chdir(tmp_path)
    fabricate(tmp_path / "work_dirs" / "gamma_alpha")
    *lines, last = examples[0].strip().splitlines()
    scope: dict = {}
    exec("\n".join(lines), scope)
    table = eval(last, scope)
    assert len(table) == 16 and list(table.columns) == ["mean", "std", "count"]
    assert table["count"].eq(3).all() and table["mean"].is_monotonic_increasing


def test_one_test_runs_from_any_folder(tmp_path: Path) -> None:
    path = REPOSITORY / "tests" / "store" / "test_arrays.py"
    name = re.findall(r"^def (test_\w+)\(", path.read_text(), re.M)[0]
    for folder, given in ((tmp_path, str(path)), (REPOSITORY / "tests", "store/test_arrays.py")):
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", f"{given}::{name}"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert "1 passed" in done.stdout, done.stdout + done.stderr
