"""The error for bad usage, and its one-line message."""

import difflib
from collections.abc import Iterable


class UsageError(ValueError):
    """Bad usage or bad input; the command line prints it and exits with status 2."""


def one_of(kind: str, bad: object, valid: Iterable[object]) -> str:
    """``no grid named 'x'; valid: a, b (did you mean a?)``."""
    names = [str(name) for name in valid]
    close = difflib.get_close_matches(str(bad), names, 1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    return f"no {kind} named {str(bad)!r}; valid: {', '.join(names)}{hint}"
