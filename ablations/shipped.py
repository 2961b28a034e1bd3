"""What comes with the package: the configs and grids, and the names of the commands."""

import sys
from pathlib import Path

_HERE = Path(__file__).resolve().parent


def configs_folder() -> Path:
    """``configs/`` of the checkout, or the copy inside an installed package."""
    checkout = _HERE.parent / "configs"
    return checkout if (checkout / "grids").is_dir() else _HERE / "configs"


def command(name: str) -> str:
    """A command as the user would type it: ``ablate NAME`` or ``python runners/NAME.py``."""
    checkout = (_HERE.parent / "runners" / f"{name}.py").is_file()
    return f"python runners/{name}.py" if checkout and not called_ablate() else f"ablate {name}"


def called_ablate() -> bool:
    """Whether this process was started as ``ablate COMMAND``."""
    return sys.argv[0].startswith("ablate ")
