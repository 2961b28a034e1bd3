"""The arrays that a trial leaves: whole or absent, like its other files."""

from pathlib import Path
from typing import Any

import numpy as np


def write_arrays(path: Path, **arrays: Any) -> None:
    """Write an ``.npz`` under a temporary name in the same folder, then move it into place."""
    draft = path.with_name(f".{path.name}.draft.npz")
    np.savez_compressed(draft, **arrays)
    draft.replace(path)
