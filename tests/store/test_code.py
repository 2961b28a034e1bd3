"""The code that a trial computes with is found without importing it."""

import subprocess
import sys
from pathlib import Path

import pytest

from ablations.store import code
from ablations.store.code import own_code, user_code


def config(*imports: str, **more: object) -> dict:
    return {"custom_imports": {"imports": ["ablations.training", *imports], **more}}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder: a loss, what it imports, and a module that nobody imports."""
    monkeypatch.chdir(tmp_path)
    sources = {
        "its_loss.py": "raise RuntimeError('imported')\nimport torch, json\nfrom its import maths",
        "its/__init__.py": "",
        "its/maths.py": "def f():\n    from .deeper import below",
        "its/deeper/__init__.py": "from ..side import thing",
        "its/side.py": "thing = 1",
        "its/unused.py": "",
        "unused.py": "",
    }
    for name, text in sources.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_a_module_counts_with_what_it_imports_of_the_users_own(folder: Path) -> None:
    found = user_code(config("its_loss"))
    assert list(found) == ["its", "its.deeper", "its.maths", "its.side", "its_loss"]
    assert "its_loss" not in sys.modules
    assert "its" not in sys.modules


@pytest.mark.parametrize("name", ["its_loss.py", "its/side.py", "its/__init__.py"])
def test_an_edit_changes_the_digest_of_its_module_alone(folder: Path, name: str) -> None:
    before = user_code(config("its_loss"))
    with (folder / name).open("a") as stream:
        stream.write("\n1")
    after = user_code(config("its_loss"))
    module = name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    assert [key for key in before if before[key] != after[key]] == [module]


def test_line_ends_and_unused_modules_do_not_count(folder: Path) -> None:
    before = user_code(config("its_loss"))
    (folder / "unused.py").write_text("2")
    (folder / "its" / "unused.py").write_text("2")
    path = folder / "its_loss.py"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert user_code(config("its_loss")) == before


def test_imports_that_go_round_in_a_circle_end(folder: Path) -> None:
    (folder / "its" / "side.py").write_text("import its_loss")
    assert len(user_code(config("its_loss"))) == 5


def test_what_is_installed_counts_only_where_the_config_names_it(folder: Path) -> None:
    (folder / "its_loss.py").write_text("import torch, mmdet.models, numpy as np, email.mime.text")
    assert list(user_code(config("its_loss"))) == ["its_loss"]
    assert list(user_code(config("mmdet.models.losses.focal_loss"))) == [
        "mmdet.models.losses.focal_loss"
    ]


def test_the_packages_own_modules_are_nobodys_own_code(folder: Path) -> None:
    assert user_code({"custom_imports": {"imports": ["ablations.training"]}}) == {}
    assert user_code({}) == user_code({"custom_imports": None}) == {}
    (folder / "its_loss.py").write_text("from ablations.losses.registry import LOSSES")
    assert list(user_code({"custom_imports": {"imports": "its_loss"}})) == ["its_loss"]


def test_a_module_that_is_not_there_is_named(folder: Path) -> None:
    with pytest.raises(ModuleNotFoundError, match="no module named 'its_los'"):
        user_code(config("its_los"))
    with pytest.raises(ModuleNotFoundError, match=r"its_loss\.deeper"):
        user_code(config("its_loss.deeper"))
    assert user_code(config("its_los", allow_failed_imports=True)) == {}


def test_our_own_code_is_told_apart_by_its_contents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for part in code.PARTS:
        (tmp_path / part).mkdir()
        (tmp_path / part / "one.py").write_text("1")
    monkeypatch.setattr(code, "PACKAGE", tmp_path)
    before = own_code()
    (tmp_path / "losses" / "__pycache__").mkdir()
    (tmp_path / "losses" / "__pycache__" / "one.pyc").write_text("")
    assert own_code() == before
    (tmp_path / "losses" / "one.py").write_text("2")
    (losses, changed), (training, same) = own_code().items()
    assert losses.endswith(".losses") and changed != before[losses]
    assert training.endswith(".training") and same == before[training]


def test_code_is_found_where_the_command_finds_it(folder: Path) -> None:
    """Without the folder on Python's path, as an installed command starts."""
    script = (
        "import sys; sys.path = [p for p in sys.path if p not in ('', '.')]\n"
        "from ablations.store.code import user_code\n"
        "print(sorted(user_code({'custom_imports': {'imports': ['its_loss']}})))"
    )
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=folder,
        env={"PYTHONPATH": root},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "its.maths" in done.stdout
