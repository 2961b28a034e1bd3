"""Runs when a fork server starts; importing this module anywhere else does nothing.

Python's fork server can import modules but not call functions. So it imports this module, which
makes the calls that ``fork_server`` has put into an environment variable. The variable is removed,
so that trials do not inherit it.
"""

import importlib
import json
import os
import signal
from typing import Any

from ablations.store.processes import end_with_parent, ignore
from ablations.sweep.launchers.fork_server import CALLS

_hangup: Any = signal.SIG_DFL  # what SIGHUP did when this process started; ignored under nohup


def begin_process(server: int) -> None:
    """Called first in every forked process: it ends with the server, and hears signals again.

    A terminal sends Ctrl-C to all processes at once. Only the launcher handles it, because it must
    let the trials save their state first. SIGTERM at the server's end keeps trials from running on
    when the launcher is killed.

    Args:
        server: process id of the fork server.
    """
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, _hangup)
    end_with_parent(signal.SIGTERM, server)


def _start(calls: list[list[str]]) -> None:
    # Before the slow imports: signals may come during them. Whoever stops a sweep may signal all
    # its processes, and the server must outlive the trials: it tells the launcher how they ended.
    global _hangup
    _hangup = signal.getsignal(signal.SIGHUP)
    ignore(signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    end_with_parent(signal.SIGKILL, os.getppid())
    for call, *arguments in calls:
        module, function = call.split(":")
        getattr(importlib.import_module(module), function)(*arguments)


if CALLS in os.environ:
    _start(json.loads(os.environ.pop(CALLS)))
