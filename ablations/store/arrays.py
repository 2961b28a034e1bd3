"""A trial's ``.npz`` files: written whole or not at all, and checked when read."""

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def write_arrays(path: Path, **arrays: Any) -> None:
    """Write an ``.npz`` under a temporary name in the same folder, then move it into place."""
    draft = path.with_name(f".{path.name}.draft.npz")
    np.savez_compressed(draft, **arrays)
    draft.replace(path)


def read_arrays(path: Path, needed: Sequence[str]) -> dict[str, NDArray[Any]]:
    """The arrays of ``path`` that are ``needed``.

    Raises:
        ValueError: the file is missing or damaged, or lacks an array; the message names it.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            lacking = [name for name in needed if name not in stored]
            found = {name: stored[name] for name in needed if not lacking}
    # What NumPy says of a torn file names no file; a lone array (.npy) is no context manager.
    except (OSError, EOFError, ValueError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    if lacking:
        raise ValueError(f"{path} lacks {', '.join(lacking)}")
    return found
