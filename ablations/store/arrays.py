"""A trial's ``.npz`` files: written whole or not at all, and checked when read."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ablations.store.files import put_in_place, removed_on_failure


def write_arrays(path: Path, **arrays: Any) -> None:
    """Write an ``.npz`` under a temporary name in the same folder, then move it into place."""
    draft = path.with_name(f".{path.name}.draft.npz")
    with removed_on_failure(draft):
        np.savez_compressed(draft, **arrays)
        put_in_place(draft, path)


def read_arrays(path: Path, needed: Sequence[str]) -> dict[str, NDArray[Any]]:
    """The arrays of ``path`` that are ``needed``.

    Raises:
        ValueError: the file is missing or damaged, or lacks an array; the message names it.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            lacking = [name for name in needed if name not in stored]
            found = {name: stored[name] for name in needed if not lacking}
    # NumPy, zipfile and zlib raise what they like on a damaged file, and name no file.
    except Exception as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    if lacking:
        raise ValueError(f"{path} lacks {', '.join(lacking)}")
    for name, value in found.items():
        if not isinstance(value, np.ndarray):  # NumPy returns the bytes of what is no array
            raise ValueError(f"{path} cannot be read: its {name} is no array")
    return found
