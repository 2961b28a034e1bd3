"""The state of the code that trains: the checkout's commit, and whether files were changed."""

import subprocess
from functools import cache
from pathlib import Path
from typing import Any

from ablations.store.code import own_code


@cache
def code_state() -> dict[str, Any]:
    """``commit`` and ``dirty`` of the checkout that this code is in; {} outside a checkout.

    It is looked up once in a process. Files under ``reports/`` do not count as changes: a sweep
    writes there.
    """
    root = Path(__file__).parents[2]

    def git(*arguments: str) -> str:
        # Without the option git takes a lock, and a commit made at the same time could fail.
        command = ["git", "--no-optional-locks", "-C", str(root), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != root.resolve():
            return {}  # the package is installed inside another project's checkout
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

    The fork server calls this when it has loaded the code. A commit that is made while the sweep
    runs is not the code that trains.
    """
    code_state()
    loaded_code()
