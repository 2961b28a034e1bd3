"""What a command does when nobody reads its output any more, as in ``... | head``."""

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

CLOSED = 128 + signal.SIGPIPE
"""The exit status then, as a shell reports it."""


class Command(Protocol):
    """A command: its arguments (``sys.argv``'s by default) to its exit status."""

    def __call__(self, arguments: Sequence[str] | None = None) -> int: ...


def refuse(error: object) -> None:
    """Print an error in one line, whatever letters a bad value has."""
    text = " ".join(str(error).split())
    shown = "".join(x if x.isprintable() else x.encode("unicode_escape").decode() for x in text)
    print(f"{Path(sys.argv[0]).name}: error: {shown}", file=sys.stderr)


def until_closed(command: Command) -> Command:
    """``command``, ended quietly once its standard output has been closed."""

    def run(arguments: Sequence[str] | None = None) -> int:
        try:
            try:
                return command(arguments)
            finally:
                sys.stdout.flush()
        except BrokenPipeError:
            # What is still buffered is written when Python ends; it must not fail again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return CLOSED

    run.__doc__ = command.__doc__
    return run
