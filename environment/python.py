"""Make the virtual environment from a Python, and keep the torch that this Python has.

    python3.12 -m environment.python .venv

Run by the Python that the environment is made from, which may itself be a virtual or a conda
environment.
"""

import argparse
import site
import subprocess
import sys
from pathlib import Path

from environment.running import StepError, pip_install, say
from environment.torches import Torch, torch_of

OLDEST, NEWEST = (3, 10), (3, 13)  # Python, as in pyproject.toml
BUILD = ("pip", "setuptools>=77,<80", "wheel", "ninja", "psutil")  # what compiling mmcv needs


def main(arguments: list[str] | None = None) -> int:
    """Make the environment; exit status 2 where this Python or its torch is out of range."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="the environment's folder, such as .venv")
    folder = parser.parse_args(arguments).folder
    if refused := refusal(sys.version_info[:2]):
        print(f"{refused} This one is {sys.executable}.", file=sys.stderr)
        return 2
    try:
        torch = torch_of(sys.executable)
        if torch is not None and (refused := torch.refusal()):
            print(f"{refused} Or set PYTHON to one without torch.", file=sys.stderr)
            return 2
        make(folder, torch)
    except StepError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def refusal(version: tuple[int, int]) -> str | None:
    """Why this version of Python cannot be used; ``None`` if it can."""
    if OLDEST <= version <= NEWEST:
        return None
    names = (".".join(map(str, each)) for each in (OLDEST, NEWEST, version))
    return "Python {} to {} is needed, this is {}; set PYTHON=/path/to/python.".format(*names)


def make(folder: Path, torch: Torch | None) -> None:
    """A new environment in ``folder``, through which ``torch`` and what is beside it are seen."""
    say(f"making {folder} from Python {sys.version.split()[0]}, {sys.executable}")
    command = [sys.executable, "-m", "venv", *(["--system-site-packages"] if torch else []), folder]
    subprocess.run(command, check=True)
    python = folder / "bin" / "python"
    if torch is not None:
        say(f"keeping {torch}")
        if sys.prefix != sys.base_prefix:  # then --system-site-packages means the base's packages
            (target,) = folder.glob("lib/python*/site-packages")
            lines = (f"import site; site.addsitedir({path!r})" for path in site.getsitepackages())
            (target / "packages_of_python.pth").write_text("\n".join(lines) + "\n")
    pip_install("--upgrade", *BUILD, python=python, log=folder / "setup.log")


if __name__ == "__main__":
    sys.exit(main())
