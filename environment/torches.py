"""Which torch a Python has, and which torchvision goes with it."""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from environment.running import StepError

OLDEST = (2, 4)  # as in pyproject.toml
CODE = """
import importlib.util, sys
if importlib.util.find_spec("torch") is None:
    sys.exit(3)
import torch
cuda, gpus = torch.version.cuda or "", torch.cuda.device_count()
print(torch.__version__, cuda, gpus, torch.__file__, sep="|")
"""
NO_TORCH = 3


@dataclass(frozen=True)
class Torch:
    """A torch that is installed; ``cuda`` is empty in a build for the CPU."""

    version: str
    cuda: str
    gpus: int
    path: str

    def __str__(self) -> str:
        build = f"built for CUDA {self.cuda}, {self.gpus} GPUs here" if self.cuda else "for the CPU"
        return f"torch {self.version} ({build}) from {Path(self.path).parent}"

    def refusal(self) -> str | None:
        """Why the project does not run on it; ``None`` if it does."""
        if release(self.version) >= OLDEST:
            return None
        oldest = ".".join(map(str, OLDEST))
        return f"torch {oldest} or newer is needed, {self.path} is {self.version}; update it."


def torch_of(python: str) -> Torch | None:
    """The torch that ``python`` imports; ``None`` if it has none.

    Raises:
        StepError: it has one that cannot be imported.
    """
    done = subprocess.run([python, "-c", CODE], capture_output=True, text=True, check=False)
    if done.returncode == NO_TORCH:
        return None
    if done.returncode:
        raise StepError(f"{python} has a torch that cannot be imported:\n{done.stderr[-1000:]}")
    version, cuda, gpus, path = done.stdout.strip().splitlines()[-1].split("|")
    return Torch(version, cuda, int(gpus), path)


def release(version: str) -> tuple[int, int]:
    """Major and minor version: ``(2, 11)`` of ``2.11.0+cu130``."""
    found = re.match(r"(\d+)\.(\d+)", version)
    if found is None:
        raise ValueError(f"{version!r} is no version of torch")
    return int(found[1]), int(found[2])


def torchvision_for(version: str) -> str:
    """The requirement of the torchvision made for a torch: 0.19 for 2.4, one more for each."""
    return f"torchvision==0.{release(version)[1] + 15}.*"
