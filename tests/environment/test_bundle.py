"""`make bundle` and `make offline-setup`: what they choose, leave out and refuse.

Nothing is downloaded.
"""

import json
import platform
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from environment import bundle, offline, packages
from environment.running import StepError

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--python", "3.9"], "3.9"),
        (["--python", "3.14"], "3.10, 3.11, 3.12, 3.13"),
        (["--platform", "win_amd64"], "win_amd64"),
        (["--platform", "manylinux_2_28_x86_64;rm"], "manylinux_2_28_x86_64 (glibc 2.28)"),
        (["--have", "/nowhere/have.txt"], "/nowhere/have.txt"),
    ],
)
def test_what_no_bundle_can_be_made_for_is_one_line(
    arguments: list[str], named: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert bundle.main([*arguments, "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert named in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_wheels_for_older_glibcs_are_taken_and_for_newer_ones_not() -> None:
    tags = bundle.platforms("manylinux_2_28_x86_64")
    assert tags[0] == "manylinux_2_28_x86_64"
    assert {"manylinux_2_17_x86_64", "manylinux2014_x86_64"} <= set(tags)
    assert "manylinux_2_29_x86_64" not in tags and not any("aarch64" in tag for tag in tags)


def test_what_a_machine_has_is_read_from_pips_list(tmp_path: Path) -> None:
    lines = "numpy==1.26.4\nScikit_Learn==1.5.0\ntorch==2.6.0+cu124\nmine @ file:///src\n# x==1\n"
    lines += "setuptools==68.0.0\nninja==1.11\n"  # of certain releases: always bundled
    (tmp_path / "have.txt").write_text(lines)
    found = bundle.listed(tmp_path / "have.txt")
    assert found == {"numpy": "1.26.4", "scikit-learn": "1.5.0", "torch": "2.6.0"}


def wheel(folder: Path, name: str, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / name, "w", zipfile.ZIP_DEFLATED) as file:
        for path, text in files.items():
            file.writestr(path, text)


def download(monkeypatch: pytest.MonkeyPatch, *names: str) -> list[str]:
    """Let pip download wheels of these names, which are empty; the command, once it has run."""
    command: list[str] = []

    def pip(line: list[Any], *rest: Any) -> None:
        command.extend(map(str, line))
        folder = Path(line[line.index("--dest") + 1])
        for name in names:
            wheel(folder, name, module="x = 1\n" * 1000)

    def fetch(requirement: str, folder: Path, log: Path) -> None:
        (folder / "mmcv-2.1.0.tar.gz").write_bytes(b"source")

    monkeypatch.setattr(bundle, "logged", pip)
    monkeypatch.setattr(bundle, "fetch", fetch)
    return command


NAMES = (
    "numpy-1.26.4-cp312-cp312-manylinux_2_17_x86_64.whl",
    "opencv_python-4.10.0-cp37-abi3-manylinux_2_17_x86_64.whl",
    "opencv_python_headless-4.10.0-cp37-abi3-manylinux_2_17_x86_64.whl",
    "scikit_learn-1.5.0-cp312-cp312-manylinux_2_17_x86_64.whl",
    "torch-2.6.0-cp312-cp312-manylinux1_x86_64.whl",
)


def test_an_archive_holds_the_project_and_what_the_machine_lacks(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    command = download(monkeypatch, *NAMES)
    have = {"numpy": "1.26.4", "torch": "2.6.0", "other": "1.0"}
    archive = bundle.make("3.12", "manylinux_2_28_x86_64", have, tmp_path / "out")
    requirements = [each for each in command if each[0].isalpha() and ">=" in each]
    assert any(each.startswith("pandas>=") for each in requirements)
    assert not any(each.startswith(("torch", "mmcv")) for each in requirements)
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path)
    project = tmp_path / "loss-ablations"
    assert (project / "Makefile").is_file() and (project / "ablations/__init__.py").is_file()
    assert not (project / "reports/published").exists()
    kept = [NAMES[2], NAMES[3]]
    assert sorted(path.name for path in (project / "bundle").glob("*.whl")) == kept
    with zipfile.ZipFile(project / "bundle" / NAMES[3]) as file:
        assert file.read("module") == b"x = 1\n" * 1000
    about = json.loads((project / "bundle" / "bundle.json").read_text())
    assert about["wheels"] == kept and about["mmcv"] == "mmcv-2.1.0.tar.gz"
    assert about["have"] == {"numpy": "1.26.4", "torch": "2.6.0"}


def test_an_archive_that_cannot_be_packed_is_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    download(monkeypatch, *NAMES)
    monkeypatch.setattr(bundle, "XZ", ("sh", "-c", "exit 3"))  # as on a full disk
    with pytest.raises(StepError, match="ended with status 3"):
        bundle.make("3.12", "manylinux_2_28_x86_64", {}, tmp_path / "out")
    assert not list((tmp_path / "out").glob("*.xz"))


def test_markers_are_read_by_the_other_python(tmp_path: Path) -> None:
    """pip itself would read them by the Python that runs it."""
    for name in ("old", "new"):
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
        info = f"{name}-1.0.dist-info"
        tag = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        files = {f"{info}/METADATA": metadata, f"{info}/WHEEL": tag, f"{info}/RECORD": ""}
        wheel(tmp_path / "index", f"{name}-1.0-py3-none-any.whl", **files)
    pip_for = REPOSITORY / "environment" / "pip_for.py"
    command = [sys.executable, pip_for, "3.10", "download", "--only-binary", ":all:", "--no-index"]
    command += ["--find-links", tmp_path / "index", "--dest", tmp_path / "got"]
    wanted = ["old; python_version < '3.11'", "new; python_version >= '3.11'"]
    subprocess.run([*command, *wanted], capture_output=True, check=True)
    assert [path.name for path in (tmp_path / "got").iterdir()] == ["old-1.0-py3-none-any.whl"]


def offline_bundle(folder: Path, **changes: Any) -> Path:
    glibc = platform.libc_ver()[1].split(".")[1]
    about = {
        "python": bundle.running(),
        "platform": f"manylinux_2_{glibc}_{platform.machine()}",
        "have": {},
        "mmcv": "mmcv-2.1.0.tar.gz",
        "wheels": ["rich-15.0.0-py3-none-any.whl"],
    }
    folder.mkdir()
    (folder / "bundle.json").write_text(json.dumps(about | changes))
    for name in ("mmcv-2.1.0.tar.gz", "rich-15.0.0-py3-none-any.whl"):
        (folder / name).touch()
    return folder


def test_a_bundle_that_fits_is_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    version = offline.installed("numpy")
    folder = offline_bundle(tmp_path / "bundle", have={"numpy": version})
    assert offline.main([str(folder)]) == 0, capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"python": "3.9"}, "for Python 3.9, this is"),
        ({"platform": "manylinux_2_99_x86_64"}, "manylinux_2_99_x86_64"),
        ({"platform": "manylinux_2_17_s390"}, "manylinux_2_17_s390"),
        ({"have": {"numpy": "1.0.0"}}, "numpy 1.0.0"),
        ({"have": {"no-such-package": "1"}}, "no-such-package 1 out"),
        ({"wheels": ["lost-1.0-py3-none-any.whl"]}, "lacks lost-1.0"),
        ({"mmcv": "mmcv-9.tar.gz"}, "lacks mmcv-9"),
        ({"wheels": None}, "is no bundle"),
    ],
)
def test_a_bundle_that_does_not_fit_is_one_line(
    changes: dict[str, Any], named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = offline_bundle(tmp_path / "bundle", **changes)
    assert offline.main([str(folder)]) == 2
    error = capsys.readouterr().err
    assert named in error and error.count("\n") == 1


def test_a_missing_bundle_or_torch_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert offline.main([str(tmp_path / "nowhere")]) == 2
    error = capsys.readouterr().err
    assert "nowhere" in error and error.count("\n") == 1
    folder = offline_bundle(tmp_path / "bundle")
    monkeypatch.setattr(offline, "installed", lambda name: None if name == "torchvision" else "1")
    assert offline.main([str(folder)]) == 2
    error = capsys.readouterr().err
    assert "torchvision" in error and error.count("\n") == 1


def test_make_offline_setup_begins_nothing_without_a_bundle(tmp_path: Path) -> None:
    command = ["make", "offline-setup", f"PYTHON={sys.executable}", f"VENV={tmp_path / 'venv'}"]
    command += [f"BUNDLE={tmp_path / 'nowhere'}"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "nowhere is no bundle" in done.stderr
    assert not (tmp_path / "venv").exists()


def test_a_bundle_is_installed_without_asking_pip_for_anything_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = offline_bundle(tmp_path / "bundle")
    calls: list[tuple[Any, ...]] = []
    monkeypatch.setattr(packages, "pip_install", lambda *arguments: calls.append(arguments))
    packages.install_bundle(folder)
    assert calls[0] == ("--no-deps", folder / "rich-15.0.0-py3-none-any.whl")
    assert all("--no-deps" in call for call in calls)
