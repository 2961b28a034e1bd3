"""Check that a bundle fits this Python and machine, before `make offline-setup` begins.

    python3.12 -m environment.offline bundle

Run by the Python that the environment is made from.
"""

import argparse
import importlib.metadata
import json
import platform
import sys
from pathlib import Path
from typing import Any

from environment.bundle import BY_TORCH, PLATFORM, running
from environment.running import say


def main(arguments: list[str] | None = None) -> int:
    """Exit status 2, with a line for each thing that does not fit."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args(arguments).folder
    try:
        about = json.loads((folder / "bundle.json").read_text())
        lines = [*misfits(about), *incomplete(folder, about)]
    except (OSError, ValueError, KeyError, TypeError):
        lines = [f"{folder} is no bundle (it has no bundle.json that `make bundle` wrote)"]
    for line in lines:
        print(line, file=sys.stderr)
    if not lines:
        say(f"installing from {folder}, made for Python {about['python']} on {about['platform']}")
    return 2 if lines else 0


def misfits(about: dict[str, Any]) -> list[str]:
    """Why this Python or machine cannot use the bundle."""
    lines = []
    python = running()
    if python != about["python"]:
        lines.append(
            f"the bundle is for Python {about['python']}, this is {python} ({sys.executable}); "
            f"set PYTHON, or make bundle FOR={python}"
        )
    wanted = PLATFORM.fullmatch(about["platform"])
    glibc = platform.libc_ver()[1] or "0.0"
    here = (platform.machine(), int(glibc.split(".")[1]))
    if wanted is None or here[0] != wanted[2] or here[1] < int(wanted[1]):
        lines.append(f"the bundle is for {about['platform']}, this is {here[0]} with glibc {glibc}")
    if python == about["python"]:
        lines += absent(about["have"])
    return lines


def absent(have: dict[str, str]) -> list[str]:
    """What the bundle leaves to this Python and is not here, or in another release."""
    lines = [
        f"the bundle has no {name}, which belongs to torch, and {sys.executable} has none either"
        for name in BY_TORCH
        if installed(name) is None
    ]
    for name, version in have.items():
        if installed(name) != version:
            here = installed(name) or "none"
            lines.append(f"the bundle leaves {name} {version} out, {sys.executable} has {here}")
    return lines


def installed(name: str) -> str | None:
    """The release of a package in this Python, without a build's own suffix such as ``+cu128``."""
    try:
        return importlib.metadata.version(name).partition("+")[0]
    except importlib.metadata.PackageNotFoundError:
        return None


def incomplete(folder: Path, about: dict[str, Any]) -> list[str]:
    """Files that the bundle should have."""
    here = {path.name for path in folder.iterdir()}
    wanted = [about["mmcv"], *about["wheels"]]
    return [f"{folder} lacks {name}" for name in wanted if name not in here]


if __name__ == "__main__":
    sys.exit(main())
