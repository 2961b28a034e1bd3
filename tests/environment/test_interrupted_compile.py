"""`python -m environment.mmcv`, killed while it compiles, goes on where it was.

A package of six small files stands for mmcv. Its compiler writes down what it compiles.
"""

import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
FILES = 6
SETUP = """
import sys
from glob import glob
from os.path import abspath
from setuptools import setup
options = {}
if "bdist_wheel" in sys.argv:
    from torch.utils.cpp_extension import BuildExtension, CppExtension
    common = abspath("mmcv/ops/csrc/common")
    sources = sorted(glob("mmcv/ops/csrc/*.cpp"))
    extension = CppExtension("mmcv._ext", sources, include_dirs=[common])
    options = dict(ext_modules=[extension], cmdclass={"build_ext": BuildExtension})
setup(name="mmcv-stand-in", version="1.0", packages=["mmcv"], **options)
"""
COMPILER = """#!/bin/sh
case "$*" in *" -c "*file?.cpp*)
    echo "$*" | grep -o 'file[0-9].cpp' | head -1 >> {log}
    sleep 0.3;;
esac
exec g++ "$@"
"""


@pytest.fixture
def stand_in(tmp_path: Path) -> dict[str, str]:
    """An environment in which pip finds the stand-in for mmcv, and installs it into a folder."""
    source = tmp_path / "mmcv_stand_in-1.0"
    header = source / "mmcv/ops/csrc/common/pytorch_cpp_helper.hpp"
    header.parent.mkdir(parents=True)
    header.write_text("inline int seven() { return 7; }\n")
    for number in range(FILES):
        text = f'#include "pytorch_cpp_helper.hpp"\nint f{number}() {{ return seven(); }}\n'
        (header.parents[1] / f"file{number}.cpp").write_text(text)
    (source / "mmcv" / "__init__.py").touch()
    (source / "setup.py").write_text(SETUP)
    (source / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: mmcv-stand-in\nVersion: 1.0\n")
    (tmp_path / "index").mkdir()
    with tarfile.open(tmp_path / "index" / f"{source.name}.tar.gz", "w:gz") as tar:
        tar.add(source, source.name)
    compiler = tmp_path / "compiler"
    compiler.write_text(COMPILER.format(log=tmp_path / "compiled"))
    compiler.chmod(0o700)
    hidden = tmp_path / "hidden" / "mmcv"  # or the real mmcv would be found, and nothing compiled
    hidden.mkdir(parents=True)
    (hidden / "__init__.py").write_text("raise ImportError")
    changes = {"PYTHONPATH": str(hidden.parent), "CXX": str(compiler), "MAX_JOBS": "1"}
    changes |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path / "index")}
    return {**os.environ, **changes, "PIP_TARGET": str(tmp_path / "site"), "FORCE_CUDA": "0"}


def compile_command(folder: Path) -> list[str]:
    command = [sys.executable, "-m", "environment.mmcv", "--requirement", "mmcv-stand-in==1.0"]
    return [*command, "--folder", str(folder)]


def compiled(folder: Path) -> list[str]:
    """The files whose compilation was begun, in that order."""
    log = folder / "compiled"
    return log.read_text().split() if log.exists() else []


def begun(env: dict[str, str], folder: Path) -> subprocess.Popen[str]:
    """Start in a process group of its own, with SIGINT on, which a background job has off."""
    return subprocess.Popen(
        compile_command(folder / "build"),
        cwd=REPOSITORY,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def stopped(folder: Path, env: dict[str, str], files: int, number: signal.Signals) -> str:
    """Begin, send the signal once ``files`` more files are begun; what was printed."""
    wanted = len(compiled(folder)) + files
    with begun(env, folder) as process:
        while len(compiled(folder)) < wanted and process.poll() is None:
            time.sleep(0.05)
        if process.returncode is None:
            os.killpg(process.pid, number)
        printed, _ = process.communicate()
    assert len(compiled(folder)) >= wanted, printed
    assert process.returncode == (130 if number == signal.SIGINT else -number), printed
    return printed


def test_an_interrupted_compilation_goes_on(tmp_path: Path, stand_in: dict[str, str]) -> None:
    printed = stopped(tmp_path, stand_in, 3, signal.SIGINT)
    assert "goes on where it was" in printed and "Traceback" not in printed
    stopped(tmp_path, stand_in, 2, signal.SIGKILL)
    with begun(stand_in, tmp_path) as process:
        printed, _ = process.communicate()
    assert process.returncode == 0, printed
    files = compiled(tmp_path)
    assert len(set(files)) == FILES
    # Each interruption may cost the file that was being compiled, no more.
    assert len(files) <= FILES + 2, files
    assert f"compiled {FILES} of {FILES} files" in printed
    assert len(list((tmp_path / "site" / "mmcv").glob("_ext*.so"))) == 1
