"""Which state of the code trains: the commit of the checkout, and whether it was changed."""

import subprocess
from functools import cache
from pathlib import Path
from typing import Any

from ablations.store.code import own_code


@cache
def code_state() -> dict[str, Any]:
    """``commit`` and ``dirty`` of the checkout that this code lies in; {} without git.

    It is looked up once in a process. Files under ``reports/`` do not count as changes: a sweep
    writes there.
    """
    root = Path(__file__).parents[2]

    def git(*arguments: str) -> str:
        # Without the option, a lock of ours could make a commit fail that somebody makes meanwhile.
        command = ["git", "--no-optional-locks", "-C", str(root), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--", ".", ":(exclude)reports")
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(changed)}
    except (OSError, subprocess.CalledProcessError):
        return {}


@cache
def loaded_code() -> dict[str, str]:
    """``own_code`` of this process: looked up once, when the code has just been loaded."""
    return own_code()


def remember() -> None:
    """Look the state up now, for this process and all that are forked from it.

    The process that trials are forked from calls this when it has loaded the code: a commit that is
    made while a sweep runs is not what the sweep trains.
    """
    code_state()
    loaded_code()
