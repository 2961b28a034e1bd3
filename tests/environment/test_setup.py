"""The steps of `make setup`: what they refuse, keep, show and resume. Nothing is downloaded."""

import json
import os
import re
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from environment import headers_first, matrix, mmcv, packages, python, running, torches

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("version", "fits"), [((3, 9), False), ((3, 10), True), ((3, 13), True), ((3, 14), False)]
)
def test_which_pythons_are_taken(version: tuple[int, int], fits: bool) -> None:
    message = python.refusal(version)
    assert (message is None) == fits
    if message:
        assert "3.10 to 3.13" in message and ".".join(map(str, version)) in message


def test_the_ranges_agree_with_the_project() -> None:
    text = (REPOSITORY / "pyproject.toml").read_text()
    oldest, newest = python.OLDEST, python.NEWEST
    assert f'requires-python = ">={oldest[0]}.{oldest[1]},<3.{newest[1] + 1}"' in text
    minors = re.findall(r"Programming Language :: Python :: 3\.(\d+)", text)
    assert [int(each) for each in minors] == list(range(oldest[1], newest[1] + 1))
    assert f'"torch>={torches.OLDEST[0]}.{torches.OLDEST[1]}"' in text


@pytest.mark.parametrize(
    ("version", "fits"),
    [("2.3.1", False), ("1.13.0", False), ("2.4.0+cu121", True), ("2.11.0a0", True)],
)
def test_which_torches_are_taken(version: str, fits: bool) -> None:
    refused = torches.Torch(version, "12.1", 1, "/somewhere/torch/__init__.py").refusal()
    assert (refused is None) == fits
    assert fits or version in str(refused)


@pytest.mark.parametrize(
    ("torch", "torchvision"), [("2.4.0", "0.19"), ("2.11.0+cu130", "0.26"), ("2.13.0", "0.28")]
)
def test_torchvision_is_the_one_made_for_the_torch(torch: str, torchvision: str) -> None:
    assert torches.torchvision_for(torch) == f"torchvision=={torchvision}.*"


def fake_torch(folder: Path, text: str) -> dict[str, str]:
    """An environment in which ``import torch`` finds a package of this text first."""
    (folder / "torch").mkdir(parents=True)
    (folder / "torch" / "__init__.py").write_text(textwrap.dedent(text))
    return {**os.environ, "PYTHONPATH": str(folder)}


FOUND = """
    __version__ = "{}"
    class version: cuda = "12.4"
    class cuda:
        device_count = staticmethod(lambda: 2)
"""


def test_the_torch_of_a_python_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_torch(tmp_path, FOUND.format("2.6.0"))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found = torches.torch_of(sys.executable)
    assert found is not None
    assert "torch 2.6.0 (built for CUDA 12.4, 2 GPUs here)" in str(found)
    (tmp_path / "torch" / "__init__.py").write_text("raise OSError('libcudart.so.12')")
    with pytest.raises(running.StepError, match="libcudart"):
        torches.torch_of(sys.executable)


def test_an_old_torch_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    env = fake_torch(tmp_path / "site", FOUND.format("2.1.0"))
    target = tmp_path / "venv"
    command = [sys.executable, "-m", "environment.python", str(target)]
    done = subprocess.run(command, env=env, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1 and "is 2.1.0" in done.stderr
    assert not target.exists()


def test_the_environment_sees_the_packages_of_a_virtual_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--system-site-packages of a virtual environment's Python means the base Python's."""
    given, made = tmp_path / "given", tmp_path / "made"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", given], check=True)
    (site,) = given.glob("lib/python*/site-packages")
    fake_torch(site, FOUND.format("2.6.0"))
    code = (
        "import sys; from pathlib import Path; from environment import python, torches\n"
        "python.pip_install = lambda *a, **k: None\n"
        "python.make(Path(sys.argv[1]), torches.torch_of(sys.executable))"
    )
    command = [given / "bin" / "python", "-c", code, made]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert "keeping torch 2.6.0" in done.stdout
    found = torches.torch_of(str(made / "bin" / "python"))
    assert found is not None and Path(found.path).parents[1] == site


def test_pips_noise_is_not_shown_and_its_errors_are(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    lines = [
        "WARNING: Location 'file:///nowhere/torch/' is ignored: it is neither a file nor a folder.",
        "WARNING: Retrying (Retry(total=4)) after connection broken",
        "  Downloading torch-2.13.0-cp311-manylinux_2_28_x86_64.whl (527.1 MB)",
        "  Downloading rich-15.0.0-py3-none-any.whl (310 kB)",
        "ERROR: No matching distribution found for nothing",
    ]
    code = f"import sys; print({chr(10).join(lines)!r}); sys.exit(1)"
    with pytest.raises(running.StepError) as caught:
        running.logged([sys.executable, "-c", code], tmp_path / "log", running._show_download)
    assert "No matching distribution" in str(caught.value)
    assert "ignored" not in str(caught.value) and "Retrying" not in str(caught.value)
    shown = capfd.readouterr().out
    assert "527.1 MB" in shown and "rich" not in shown


def test_progress_counts_the_files_of_earlier_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "build" / "temp.linux"
    folder.mkdir(parents=True)
    log = "# ninja log v6\n" + "".join(f"0\t9\t0\tfile{i}.o\tabc\n" for i in range(30))
    (folder / ".ninja_log").write_text(log + "0\t9\t0\tfile3.o\tabd\n")
    show = mmcv.Progress(mmcv._files_compiled(tmp_path))
    for done in range(1, 48):
        show(f"[{done}/47] c++ -MMD")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "   compiled 31 of 77 files"
    assert lines[-1] == "   compiled 77 of 77 files"
    assert len(lines) < 12


@pytest.mark.parametrize(
    ("cuda", "nvcc", "gpus", "force", "expected"),
    [
        (None, True, 1, None, "0"),
        ("12.4", True, 1, None, "1"),
        ("12.4", False, 1, None, "0"),
        ("12.4", True, 0, None, "1"),
        ("12.4", True, 1, "0", "0"),
    ],
)
def test_when_the_cuda_operators_are_compiled(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    cuda: str | None,
    nvcc: bool,
    gpus: int,
    force: str | None,
    expected: str,
) -> None:
    compiler = tmp_path / "bin" / "nvcc"
    compiler.parent.mkdir()
    if nvcc:
        compiler.touch()
        compiler.chmod(stat.S_IRWXU)
    for name in ("FORCE_CUDA", "TORCH_CUDA_ARCH_LIST", "CUDA_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    monkeypatch.setattr(mmcv.shutil, "which", lambda _: None)
    monkeypatch.setattr(mmcv, "_says", lambda _: str(gpus or ""))
    if force:
        monkeypatch.setenv("FORCE_CUDA", force)
    found = mmcv._for_device(cuda)
    assert found["FORCE_CUDA"] == expected
    assert ("TORCH_CUDA_ARCH_LIST" in found) == (expected == "1" and not gpus)


def test_the_header_is_compiled_with_the_options_of_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And GCC takes it: a file that includes it compiles when the header itself is broken."""
    monkeypatch.chdir(tmp_path)
    headers_first.HEADER.parent.mkdir(parents=True)
    headers_first.HEADER.write_text("inline int seven() { return 7; }\n")
    rules = "cxx = g++\ncflags = -O1 -fPIC -c\npost_cflags = -std=c++17\n"
    (tmp_path / "build.ninja").write_text(rules)
    headers_first.compile_header(str(tmp_path))
    made = headers_first.HEADER.with_name(headers_first.HEADER.name + ".gch")
    assert made.exists()
    headers_first.HEADER.write_text("#error this is not read\n")
    (tmp_path / "a.cpp").write_text(
        '#include "pytorch_cpp_helper.hpp"\nint f() { return seven(); }'
    )
    command = ["g++", "-O1", "-fPIC", "-c", "-std=c++17", f"-I{headers_first.HEADER.parent}"]
    subprocess.run([*command, "a.cpp", "-o", "a.o"], check=True)
    written = made.stat().st_mtime_ns
    headers_first.compile_header(str(tmp_path))
    assert made.stat().st_mtime_ns == written  # not again after an interruption


@pytest.mark.parametrize(("required", "asked"), [("", "17"), ("17", "17"), ("20", "20")])
def test_the_standard_is_the_one_that_torch_requires(
    tmp_path: Path, required: str, asked: str
) -> None:
    header, rules = tmp_path / "ATen.h", tmp_path / "build.ninja"
    header.write_text(f"#error C++{required} or later is required\n" if required else "")
    rules.write_text("post_cflags = -std=c++17 -DX\ncuda_post_cflags = -std=c++14\n")
    headers_first.raise_standard(str(tmp_path), header)
    assert f"post_cflags = -std=c++{asked} -DX" in rules.read_text()
    assert f"cuda_post_cflags = -std=c++{max('14', required)}" in rules.read_text()


def test_ninja_is_found_where_pip_put_it_and_its_absence_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without ninja torch compiles one file at a time and keeps none of them."""
    (folder,) = mmcv.ninjas_folder()
    assert os.access(Path(folder) / "ninja", os.X_OK)
    monkeypatch.setattr(mmcv, "ninjas_folder", list)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(running.StepError, match="pip install ninja"):
        mmcv.compiled(tmp_path, tmp_path, {})


def test_the_version_of_mmcv_can_be_read_by_every_python(tmp_path: Path) -> None:
    """Python 3.13 leaves locals() unchanged by exec, which mmcv's setup.py relies on."""
    (tmp_path / "version.py").write_text("__version__ = '2.1.0'\n")
    setup = tmp_path / "setup.py"
    setup.write_text(
        "def get_version():\n"
        "    with open('version.py') as f:\n"
        "        exec(compile(f.read(), 'version.py', 'exec'))\n"
        "    return locals()['__version__']\n"
        "print(get_version())\n"
    )
    env = {**os.environ, **mmcv._exec_as_before()}
    run = {"cwd": tmp_path, "env": env, "capture_output": True, "text": True, "check": False}
    tried = [path for path in map(matrix.find_python, ("3.11", "3.13")) if path is not None]
    assert tried
    for path in tried:
        done = subprocess.run([path, "setup.py"], **run)
        assert done.stdout == "2.1.0\n", done.stderr


def test_onedl_takes_the_place_of_openmmlab_and_of_nothing_else() -> None:
    found = packages.requirements("onedl", ["dev"])
    names = [re.split(r"[<>=;!~ ]", line)[0] for line in found]
    assert {"onedl-mmcv", "onedl-mmengine", "onedl-mmdetection"} <= set(names)
    assert not {"mmcv", "mmengine", "mmdet"} & set(names)
    assert {"numpy", "pytest"} <= set(names) and "triton" not in names
    assert not any("extra ==" in line for line in found)


def test_cis_releases_are_within_the_ranges() -> None:
    packaging = pytest.importorskip("packaging.requirements")
    lines = (REPOSITORY / "constraints.txt").read_text().splitlines()
    held = dict(line.split("==") for line in lines if not line.startswith("#"))
    text = (REPOSITORY / "pyproject.toml").read_text()
    for line in re.findall(r'^ +"([\w-]+[<>=].*)",$', text, re.M):
        requirement = packaging.Requirement(line)
        if requirement.name in held and requirement.marker is None:
            assert requirement.specifier.contains(held[requirement.name]), line
    assert {"numpy", "mmdet", "mmcv", "torch", "pytest"} <= set(held)


def test_torch_is_held_to_the_version_that_pip_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A CUDA torch of the index calls itself 2.11.0+cu130, and its package is 2.11.0."""
    (tmp_path / "torch-2.11.0.dist-info").mkdir()
    text = "Metadata-Version: 2.1\nName: torch\nVersion: 2.11.0\n"
    (tmp_path / "torch-2.11.0.dist-info" / "METADATA").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    found = torches.Torch("2.11.0+cu130", "13.0", 0, "torch/__init__.py")
    monkeypatch.setattr(packages, "torch_of", lambda python: found)
    monkeypatch.setattr(packages, "_imports", lambda *args, **kwargs: True)
    monkeypatch.setattr(packages, "pip_install", lambda *args: None)
    packages.install_project("openmmlab", "dev", None)
    assert "torch==2.11.0\n" in (tmp_path / "constraints.txt").read_text()
    assert packages.version_for_pip("no-such-package", "1.0+own") == "1.0+own"


def test_an_environment_that_leaves_another_checkout_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Installed:
        url = (tmp_path / "a checkout").as_uri()

        def read_text(self, name: str) -> str:
            return json.dumps({"url": self.url, "dir_info": {"editable": True}})

    monkeypatch.setattr(packages.importlib.metadata, "distribution", lambda name: Installed())
    assert packages.another_checkout() == tmp_path / "a checkout"
    Installed.url = Path.cwd().as_uri()
    assert packages.another_checkout() is None
