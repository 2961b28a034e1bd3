"""Which process is meant, across containers and reboots, and what happens when a parent ends."""

import contextlib
import ctypes
import os
import signal
import socket
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_PR_SET_PDEATHSIG = 1
_PLACE = ("host", "boot", "pid_namespace")  # a process id means something within one place


def this_process() -> dict[str, Any]:
    """Identifies this process: ``host``, ``boot``, ``pid_namespace``, ``pid`` and ``started``.

    A process id alone does not: containers have process 1 each, and ids are used again.
    ``started`` is in clock ticks since the boot. What is not known is ``None``.
    """
    return {
        "host": socket.gethostname(),
        "boot": _text("/proc/sys/kernel/random/boot_id"),
        "pid_namespace": _link("/proc/self/ns/pid"),
        "pid": os.getpid(),
        "started": _stat("self")[1],
    }


def is_alive(process: Mapping[str, Any]) -> bool | None:
    """Whether a process, as ``this_process`` identified it, is alive.

    ``None`` if that cannot be told from here: it ran on another machine, in another container or
    before a reboot, or another process may have got its id.
    """
    here, pid = this_process(), process.get("pid")
    if not isinstance(pid, int) or pid < 1:
        return None
    if any(here[name] is None or here[name] != process.get(name) for name in _PLACE):
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return None
    if _link("/proc/self") != str(here["pid"]):
        return None  # /proc is another container's
    state, started = _stat(str(pid))
    if state in ("Z", "X"):
        return False  # it has ended, and nobody has asked how
    return True if started is not None and started == process.get("started") else None


def end_with_parent(number: int, parent: int) -> None:
    """Have the kernel send this process a signal when its parent ends.

    Args:
        number: of the signal.
        parent: the process that this one was forked from; if it has ended, the signal comes now.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:
        os.kill(os.getpid(), number)


def tell_main_thread(number: signal.Signals) -> None:
    """Send a signal to the main thread of this process, also out of a call that waits."""
    signal.pthread_kill(threading.main_thread().ident or 0, number)


def ignore(*numbers: signal.Signals) -> None:
    """Ignore signals in this process and in those that it starts."""
    for number in numbers:
        signal.signal(number, signal.SIG_IGN)


def _text(path: str) -> str | None:
    with contextlib.suppress(OSError):
        return Path(path).read_text().strip()
    return None


def _link(path: str) -> str | None:
    with contextlib.suppress(OSError):
        return str(Path(path).readlink())
    return None


def _stat(pid: str) -> tuple[str | None, int | None]:
    """The state of a process and when it started (fields 3 and 22 of its ``stat``)."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return fields[0], int(fields[19])
    return None, None
