"""Compile mmcv's operators against the torch of this Python, and install them.

    python -m environment.mmcv

mmcv has no wheel for today's torch. Its source distribution is unpacked into a folder that is kept,
so an interrupted compilation goes on where it was: ninja compiles only the files that are missing.
torch's headers are compiled once, not once for each file (``headers_first``).
"""

import argparse
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path

from environment.packages import STACKS
from environment.running import StepError, logged, pip_install, say

HEADERS = "compiling torch's headers"  # what headers_first prints
ARCHITECTURES = "8.0;9.0+PTX"  # A100 and later
FLAGS = {"CFLAGS": "-g0 -w -O1", "MMCV_WITH_OPS": "1"}


def main(arguments: list[str] | None = None) -> int:
    """Install mmcv unless ``mmcv.ops`` can be imported already."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stack", choices=list(STACKS), default="openmmlab")
    parser.add_argument("--requirement", default="", help="another release, such as mmcv==2.1.0")
    parser.add_argument("--folder", type=Path, default=Path(sys.prefix) / "mmcv-build")
    options = parser.parse_args(arguments)
    if _says("import mmcv.ops") is not None:
        say("mmcv is here, and its operators load")
        return 0
    try:
        install(options.requirement or STACKS[options.stack]["mmcv"], options.folder)
    except StepError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        say("interrupted; the same command goes on where it was")
        return 130
    return 0


def install(requirement: str, folder: Path) -> None:
    """Compile and install ``requirement`` in a folder of its own for each torch.

    Raises:
        StepError: it did not download, compile or load.
    """
    torch, cuda = _torch()
    folder = (folder / f"{re.sub('[^a-z0-9.=-]', '', requirement)}-torch-{torch}").resolve()
    source = unpacked(requirement, folder)
    started = time.monotonic()
    wheel = compiled(source, folder, _for_device(cuda))
    if minutes := round((time.monotonic() - started) / 60, 1):
        say(f"mmcv's operators compiled in {minutes} minutes")
    pip_install("--no-deps", "--force-reinstall", wheel)
    shutil.rmtree(source)


def unpacked(requirement: str, folder: Path) -> Path:
    """The source distribution's folder inside ``folder``, downloaded and unpacked once."""
    done = folder / "unpacked"
    if not done.exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        fetch(requirement, folder, folder / "download.log")
        (archive,) = folder.glob("*.tar.gz")
        with tarfile.open(archive) as tar:
            tar.extractall(folder)
        done.touch()
    return _source(folder)


def fetch(requirement: str, folder: Path, log: Path) -> None:
    """Download a source distribution into ``folder``."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--no-deps"]
    pip += ["--no-build-isolation", "--no-binary", ":all:", "--dest", str(folder), requirement]
    # pip asks setup.py for the package's name; without a GPU in sight it does not ask for nvcc.
    logged(pip, log, lambda line: None, {"CUDA_VISIBLE_DEVICES": "", **_exec_as_before()})


def _exec_as_before() -> dict[str, str]:
    """The environment in which Python 3.13 runs mmcv's ``setup.py``."""
    folder = str(Path(__file__).with_name("exec_as_before"))
    others = os.environ.get("PYTHONPATH")
    return {"PYTHONPATH": os.pathsep.join([folder, others]) if others else folder}


def _source(folder: Path) -> Path:
    (setup,) = folder.glob("*/setup.py")
    return setup.parent


def compiled(source: Path, folder: Path, env: dict[str, str]) -> Path:
    """The wheel of the ``source``. What was compiled before is not compiled again."""
    log = folder / "compile.log"
    say(f"compiling mmcv's operators, once; some minutes; output in {log}")
    setup = Path(__file__).with_name("headers_first.py")
    command = [sys.executable, "-W", "ignore", setup, "-q", "bdist_wheel", "--dist-dir", folder]
    path = os.pathsep.join([*ninjas_folder(), os.environ.get("PATH", os.defpath)])
    if shutil.which("ninja", path=path) is None:
        raise StepError(
            "ninja is not here, so an interrupted compilation would be lost: pip install ninja"
        )
    env = {**FLAGS, **env, **_exec_as_before(), "PATH": path}
    logged(command, log, Progress(_files_compiled(source)), env, source)
    if sys.stdout.isatty():
        print()
    (wheel,) = folder.glob("*.whl")
    return wheel


def ninjas_folder() -> list[str]:
    """Where pip put the program ninja, which need not be on the path; empty if it did not."""
    try:
        files = importlib.metadata.files("ninja") or []
    except importlib.metadata.PackageNotFoundError:
        return []
    return [
        str(Path(file.locate()).parent.resolve())
        for file in files
        if file.name == "ninja" and file.parts[-2] == "bin"
    ]


class Progress:
    """Shows ninja's ``[n/total]``, which counts what is left, as files of all files."""

    def __init__(self, before: int) -> None:
        self.before = before
        self.shown = -1

    def __call__(self, line: str) -> None:
        """Show the progress that ``line`` reports, if any: each file, in a log every tenth part."""
        if line.startswith(HEADERS):
            print(f"   {HEADERS}", flush=True)
        if not (found := re.match(r"\[(\d+)/(\d+)\]", line)):
            return
        done, total = (int(part) + self.before for part in found.groups())
        terminal = sys.stdout.isatty()
        step = done if terminal or done == total else 10 * done // total - 100
        if step != self.shown:
            self.shown = step
            start, end = ("\r", "") if terminal else ("", "\n")
            print(f"{start}   compiled {done} of {total} files", end=end, flush=True)


def _files_compiled(source: Path) -> int:
    """How many object files ninja finished in earlier runs, by its log."""
    finished: set[str] = set()
    for log in source.glob("build/temp*/.ninja_log"):
        finished |= {line.split("\t")[3] for line in log.read_text().splitlines()[1:]}
    return len(finished)


def _for_device(cuda: str | None) -> dict[str, str]:
    """What makes mmcv's setup.py compile the CUDA operators, or leave them out.

    They are compiled where torch is built for CUDA and nvcc is there; ``FORCE_CUDA=0`` leaves them
    out. Where no GPU is in sight, as on a login node, it is for ``TORCH_CUDA_ARCH_LIST``.
    """
    without = {"CUDA_VISIBLE_DEVICES": "", "FORCE_CUDA": "0"}
    if cuda is None or os.environ.get("FORCE_CUDA") == "0":
        return without
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH") or "/usr/local/cuda"
    nvcc = shutil.which("nvcc") or f"{home}/bin/nvcc"
    if not Path(nvcc).exists():
        say(
            f"torch is built for CUDA {cuda}, but nvcc is not here: mmcv is compiled for the CPU. "
            "For its CUDA operators load a CUDA toolkit, then `make clean setup`"
        )
        return without
    found = {"FORCE_CUDA": "1"}
    if not _says("import torch; print(torch.cuda.device_count() or '')"):
        found["TORCH_CUDA_ARCH_LIST"] = os.environ.get("TORCH_CUDA_ARCH_LIST", ARCHITECTURES)
        say(f"no GPU here; compiling for compute capability {found['TORCH_CUDA_ARCH_LIST']}")
    say(f"compiling the CUDA operators too, with {nvcc}")
    return found


def _says(code: str) -> str | None:
    """What a fresh process of this Python prints; ``None`` if it fails."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


def _torch() -> tuple[str, str | None]:
    """The version of this Python's torch, and of the CUDA that it is built for."""
    found = _says("import torch; print(torch.__version__, torch.version.cuda or '')")
    if not found:
        raise StepError(f"{sys.executable} cannot import torch; it is installed before mmcv")
    version, _, cuda = found.partition(" ")
    return version, cuda or None


if __name__ == "__main__":
    sys.exit(main())
