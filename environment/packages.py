"""Install torch where there is none, and the project with what it needs.

    python -m environment.packages torch torch==2.13.0
    python -m environment.packages project --stack openmmlab

Run by the environment's Python. ``PIP_NO_INDEX``, ``PIP_FIND_LINKS`` and the like count as usual.
"""

import argparse
import importlib.metadata
import json
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

from environment.running import StepError, logged, pip_install, say
from environment.torches import torch_of, torchvision_for

NAME = "loss-ablations"
STACKS = {
    "openmmlab": {"mmcv": "mmcv==2.1.0"},
    # A maintained fork with the same import names. pip knows it under other names.
    "onedl": {
        "mmcv": "onedl-mmcv==2.3.6",
        "mmengine": "onedl-mmengine==0.10.12",
        "mmdet": "onedl-mmdetection==3.5.1",
    },
}


def main(arguments: list[str] | None = None) -> int:
    """Install; exit status 1 with pip's last lines if that fails."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts = parser.add_subparsers(dest="part", required=True)
    torch = parts.add_parser("torch", help="torch, unless there is one, and its torchvision")
    torch.add_argument("requirement")
    torch.add_argument("--torchvision", default="", help="default: the release made for that torch")
    project = parts.add_parser("project", help="the project, editable, and its dependencies")
    project.add_argument("--stack", choices=list(STACKS), default="openmmlab")
    project.add_argument("--extras", default="dev")
    project.add_argument("--constraints", type=Path, help="a file of versions, as for pip")
    project.add_argument("--bundle", type=Path, help="install from this folder, without a network")
    options = parser.parse_args(arguments)
    try:
        if options.part == "torch":
            install_torch(options.requirement, options.torchvision)
            return 0
        if other := another_checkout():
            say(f"this environment's {NAME} was the one in {other}; from now on it is this one")
        if options.bundle:
            install_bundle(options.bundle)
        else:
            install_project(options.stack, options.extras, options.constraints)
    except StepError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def install_torch(requirement: str, torchvision: str) -> None:
    """``requirement`` where there is no torch; then the torchvision that belongs to the torch."""
    torch = torch_of(sys.executable)
    if torch is None:
        say(f"installing {requirement}")
        pip_install(requirement)
        torch = torch_of(sys.executable)
        assert torch is not None
    if not _imports("torchvision", only_find=True):
        pip_install("--no-deps", torchvision or torchvision_for(torch.version))
    if refused := torch.refusal():
        raise StepError(refused)


def install_project(stack: str, extras: str, constraints: Path | None) -> None:
    """The project and its dependencies, around the torch that is here."""
    torch = torch_of(sys.executable)
    if torch is None:
        raise StepError("torch comes first: python -m environment.packages torch torch")
    if not _imports("triton", only_find=True):
        extras = ",".join([*extras.split(","), "triton"]) if extras else "triton"
    say("installing the project and what it needs")
    kept = Path(sys.prefix) / "constraints.txt"
    given = constraints.read_text().splitlines() if constraints else []
    by_torch = ("torch==", "torchvision==", "triton==")
    lines = [line for line in given if not line.startswith(by_torch)]
    kept.write_text("\n".join([*lines, f"torch=={version_for_pip('torch', torch.version)}"]) + "\n")
    options = ["--constraint", kept, "--no-build-isolation"]
    if stack == "openmmlab":
        pip_install(*options, "--editable", f".[{extras}]")
    else:
        pip_install("--no-build-isolation", "--no-deps", "--editable", ".")
        pip_install(*options, *requirements(stack, extras.split(",")))
    if not _imports("cv2"):
        say("opencv-python does not load here (no libGL?): taking opencv-python-headless instead")
        command = [sys.executable, "-m", "pip", "uninstall", "--yes", "opencv-python"]
        logged(command, Path(sys.prefix) / "setup.log", lambda line: None)
        pip_install("--constraint", kept, "opencv-python-headless")


def another_checkout() -> Path | None:
    """The folder that the project is installed from, if it is not this one."""
    try:
        installed = importlib.metadata.distribution(NAME).read_text("direct_url.json")
    except importlib.metadata.PackageNotFoundError:
        return None
    address = json.loads(installed or "{}").get("url", "")
    folder = Path(unquote(urlsplit(address).path))
    here = Path(__file__).parents[1].resolve()
    return folder if address.startswith("file:") and folder.resolve() != here else None


def version_for_pip(name: str, imported: str) -> str:
    """The version that pip knows an installed package by.

    The index's torch for CUDA calls itself 2.11.0+cu130 and is 2.11.0 to pip, for which the two are
    different releases. ``imported`` is what it calls itself, for one that pip does not know.
    """
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return imported


def install_bundle(folder: Path) -> None:
    """The wheels of a bundle, all of them and nothing else, and the project."""
    say(f"installing the project and what it needs from {folder}")
    wheels = json.loads((folder / "bundle.json").read_text())["wheels"]
    pip_install("--no-deps", *(folder / name for name in wheels))
    pip_install("--no-deps", "--no-build-isolation", "--editable", ".")


def dependencies() -> list[str]:
    """The lines of the dependencies in ``pyproject.toml``."""
    text = (Path(__file__).parents[1] / "pyproject.toml").read_text()
    block = text.split("\ndependencies = [", 1)[1].split("]", 1)[0]
    return re.findall(r'^ +"(.*)",$', block, re.M)


def requirements(stack: str, extras: list[str]) -> list[str]:
    """The project's dependencies, with the packages of ``stack`` for OpenMMLab's."""
    found = []
    for line in importlib.metadata.requires(NAME) or []:
        requirement, _, marker = (part.strip() for part in line.partition(";"))
        extra = next((each for each in extras if f'extra == "{each}"' in marker), None)
        if "extra ==" in marker and extra is None:
            continue
        name = requirement.split(">")[0].split("=")[0].split("<")[0].strip()
        condition = marker if "extra ==" not in marker else ""
        text = STACKS[stack].get(name, requirement)
        found.append(f"{text}; {condition}" if condition else text)
    return found


def _imports(module: str, only_find: bool = False) -> bool:
    code = f"import {module}"
    if only_find:
        code = f"import importlib.util as u, sys; sys.exit(u.find_spec({module!r}) is None)"
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


if __name__ == "__main__":
    sys.exit(main())
