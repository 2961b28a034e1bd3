"""Runs when a fork server starts; importing this module anywhere else does nothing.

Python's fork server can import modules but not call functions. So it imports this module, which
makes the calls that ``fork_server`` has put into an environment variable. The variable is removed,
so that trials do not inherit it.
"""

import ctypes
import importlib
import json
import os
import signal

from ablations.sweep.launchers.fork_server import CALLS

_PR_SET_PDEATHSIG = 1


def end_with_parent() -> None:
    """Have the kernel send this process SIGTERM when its parent ends, and ignore Ctrl-C.

    A terminal sends Ctrl-C to all processes at once. Only the launcher handles it, because it must
    let the trials save their state first. SIGTERM at the parent's end keeps trials from running on
    when the launcher is killed.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _start(calls: list[list[str]]) -> None:
    end_with_parent()  # before the slow imports: Ctrl-C may come during them
    for call, *arguments in calls:
        module, function = call.split(":")
        getattr(importlib.import_module(module), function)(*arguments)


if CALLS in os.environ:
    _start(json.loads(os.environ.pop(CALLS)))
