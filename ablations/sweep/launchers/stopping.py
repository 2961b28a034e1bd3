"""The signals that ask a sweep to stop."""

import contextlib
import os
import signal
import stat
import threading
from collections.abc import Iterator

_STOPS = (signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def stopped_by_signals() -> Iterator[None]:
    """SIGTERM, and the end of the terminal, raise ``KeyboardInterrupt`` in the ``with`` block.

    They do so once: a batch system may send several, and the trials need their time. A second
    Ctrl-C does not wait for them. SIGHUP stays ignored under ``nohup``. Outside the main thread,
    which alone gets signals, this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _STOPS}
    try:
        for number, handler in before.items():
            if handler is not signal.SIG_IGN:
                signal.signal(number, _interrupt)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(number: int, _frame: object) -> None:
    for each in _STOPS:
        signal.signal(each, signal.SIG_IGN)
    if number == signal.SIGHUP:
        _leave_terminal()
    raise KeyboardInterrupt


def _leave_terminal() -> None:
    """Write to a terminal that is gone no more: it would be an error."""
    with open(os.devnull, "w") as nowhere:  # noqa: PTH123 - a device
        for number in (1, 2):
            if stat.S_ISCHR(os.fstat(number).st_mode):
                os.dup2(nowhere.fileno(), number)
