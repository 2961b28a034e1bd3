"""When files cannot be written: the disk or a quota is full, the folder is read-only or forbidden.

That is no result of a trial and no fault of a sweep. Files are whole or absent, so whatever was
stopped by it continues once there is room.
"""

import contextlib
import errno
import os
import uuid
from pathlib import Path

NO_STORAGE = 74
"""Exit status of a trial that could not write its files (``EX_IOERR`` of sysexits.h)."""

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
_PROBE = 2**16  # bytes


class StorageError(RuntimeError):
    """The files of a sweep can no longer be written; the message says which and why."""


def described(error: OSError) -> str:
    """An operating system's error, with the file's name where it has one."""
    text = " ".join((error.strerror or str(error) or type(error).__name__).split())
    return f"{text}: {os.fspath(error.filename)!r}" if error.filename is not None else text


def why_not_writable(folder: Path) -> str:
    """Why a small file cannot be written into ``folder`` now, in one line; empty if it can."""
    probe = folder / f".probe.{uuid.uuid4().hex[:8]}"
    try:
        with probe.open("wb") as stream:
            stream.write(bytes(_PROBE))
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        return described(OSError(error.errno, error.strerror, str(folder)))
    finally:
        with contextlib.suppress(OSError):
            probe.unlink()
    return ""


def trouble(error: BaseException, folder: Path) -> str:
    """Why an error is that of the disk that ``folder`` is on, in one line; empty if it is not.

    Libraries report a failed write in many ways. So it is tried, too, whether one fails now.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in _FULL:
            return described(cause)
        cause = cause.__cause__ or cause.__context__
    return why_not_writable(folder)
