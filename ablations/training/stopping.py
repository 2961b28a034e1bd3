"""The signals that ask a trial to stop, from the first moment of its process to the last."""

import contextlib
import signal
import types
from collections.abc import Iterator

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2)


class Interrupted(BaseException):
    """The trial was asked to stop; the message names the signal."""


_told: signal.Signals | None = None
_at_once = False


@contextlib.contextmanager
def listening() -> Iterator[None]:
    """Note the signals while the ``with`` block runs; begins by stopping at once (``at_once``)."""
    global _told, _at_once
    before = {number: signal.getsignal(number) for number in SIGNALS}
    _told, _at_once = None, True
    try:
        listen()
        yield
    finally:
        _at_once = False
        for number, handler in before.items():
            signal.signal(number, handler)


def listen() -> None:
    """Note the signals from now on. Those that are ignored stay so: the launcher handles them."""
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _note)


def told() -> signal.Signals | None:
    """The first signal that came, if one has."""
    return _told


def at_once(wanted: bool) -> None:
    """Whether a signal raises ``Interrupted`` where it comes: where there is nothing to save.

    Raises:
        Interrupted: it is wanted, and one has come.
    """
    global _at_once
    _at_once = wanted
    if wanted and _told is not None:
        raise Interrupted(_told.name)


def _note(number: int, _frame: types.FrameType | None) -> None:
    global _told
    if _told is None:  # raised once: what is done then must come to its end
        _told = signal.Signals(number)
        if _at_once:
            raise Interrupted(_told.name)
