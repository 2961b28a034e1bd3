"""Where the shipped configs and grids lie."""

from pathlib import Path

_HERE = Path(__file__).resolve().parent


def configs_folder() -> Path:
    """``configs/`` of the checkout, or the copy inside an installed package."""
    checkout = _HERE.parent / "configs"
    return checkout if (checkout / "grids").is_dir() else _HERE / "configs"
