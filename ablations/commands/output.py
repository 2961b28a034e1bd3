"""What a command does when nobody reads its output any more, as in ``... | head``."""

import functools
import os
import signal
import sys
from collections.abc import Callable
from typing import ParamSpec

CLOSED = 128 + signal.SIGPIPE
"""The exit status then, as a shell reports it."""

P = ParamSpec("P")


def until_closed(command: Callable[P, int]) -> Callable[P, int]:
    """``command``, ended quietly once its standard output has been closed."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> int:
        try:
            try:
                return command(*args, **kwargs)
            finally:
                sys.stdout.flush()
        except BrokenPipeError:
            # What is still buffered is written when Python ends; it must not fail again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return CLOSED

    return run
