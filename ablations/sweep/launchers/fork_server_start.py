"""The first thing that a fork server does. Importing this module anywhere else does nothing.

Python's fork server can import modules but not call functions. It imports this one, which finds in
the environment what ``fork_server`` wants called. The variable is removed, so that no trial sees
it.
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

    A terminal sends Ctrl-C to all processes at once. The launcher alone answers it: it lets the
    trials save their state first.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _start(calls: str) -> None:
    end_with_parent()  # before the slow imports: Ctrl-C may come during them
    for call, *arguments in json.loads(calls):
        module, function = call.split(":")
        getattr(importlib.import_module(module), function)(*arguments)


if CALLS in os.environ:
    _start(os.environ.pop(CALLS))
