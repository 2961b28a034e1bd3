"""Files that are either whole or absent, also after a loss of power."""

import contextlib
import hashlib
import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def write_text(path: Path, text: str, lasting: bool = False) -> None:
    """Write ``text`` under a temporary name in the same folder, then move it into place.

    If it is ``lasting``, a loss of power right afterwards does not bring an earlier text back.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        with temporary.open("w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        with contextlib.suppress(OSError):  # not instead of the error that matters
            temporary.unlink(missing_ok=True)
    if lasting:
        _flush_folder(path.parent)


@contextlib.contextmanager
def removed_on_failure(draft: Path) -> Iterator[None]:
    """Remove a file that could not be written to its end: on a full disk it would be in the way."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise


def put_in_place(draft: Path, path: Path) -> None:
    """Move a whole file into place, so that after a loss of power one of the two is there.

    Args:
        draft: the file, in the folder of ``path``.
        path: replaced if it exists.
    """
    with draft.open("rb") as stream:
        os.fsync(stream.fileno())
    draft.replace(path)
    _flush_folder(path.parent)


def _flush_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):  # some file systems cannot
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def set_aside(path: Path, kind: str = "damaged") -> Path:
    """Rename a file out of the way, as ``NAME-KIND-N.EXT``; it is kept for whoever asks why.

    Returns:
        The new path.
    """
    number = 1
    while (new := path.with_name(f"{path.stem}-{kind}-{number}{path.suffix}")).exists():
        number += 1
    return path.rename(new)


def write_json(path: Path, value: Any, lasting: bool = False) -> None:
    """``write_text`` of a value as JSON. NaN is refused; write ``None`` for a missing number.

    Raises:
        ValueError: a float in ``value`` is NaN or infinite.
    """
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n", lasting)


def read_json(path: Path) -> Any:
    """The JSON value in ``path``, or ``None`` where there is no such file.

    Raises:
        ValueError: the file is not JSON; the message names it.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as error:  # ValueError: also bytes that are no UTF-8
        raise ValueError(f"{path} is not valid JSON: {error}") from error


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
