"""Notice that a trial makes no progress: a hung trial would hold its cores for ever."""

import threading
import time
from collections.abc import Callable
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

LEAST = 120.0  # seconds without progress that are always allowed
FACTOR = 20  # times the longest step so far
SLOW = 600.0  # seconds for what is slow and rare: loading data, scoring, the last files
SCORING = 0.5  # more seconds for each validation image, between the last one and the score

_TICK = 1.0


class Watchdog:
    """Calls ``hung`` if for too long nobody said ``step`` or ``allow``.

    It counts its own seconds: those in which the machine or the process was suspended are none.

    Args:
        hung: called once, in another thread, with the seconds without progress.

    Attributes:
        limit: seconds that a step may take; by default ``FACTOR`` times the longest before it, and
            at least ``LEAST``.
    """

    def __init__(self, hung: Callable[[float], object]) -> None:
        self.limit: float | None = None
        self._hung = hung
        self._longest = 0.0
        self._stepped: float | None = None  # when the last step ended, if a step is timed now
        self._said = 0
        self._ended = threading.Event()
        self.allow(SLOW)

    def allow(self, seconds: float) -> None:
        """What comes now is no step, and may take so long."""
        self._stepped, self._allowed = None, seconds
        self._said += 1

    def step(self) -> None:
        """A step (an iteration, a batch of a validation) has ended; the next may begin."""
        now = time.monotonic()
        if self._stepped is not None:
            self._longest = max(self._longest, now - self._stepped)
        self._stepped = now
        self._allowed = self.limit or max(LEAST, FACTOR * self._longest)
        self._said += 1

    def start(self) -> "Watchdog":
        """Begin to watch."""
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()
        return self

    def end(self) -> None:
        """Watch no more."""
        self._ended.set()

    def _watch(self) -> None:
        silent, seen, before = 0.0, self._said, time.monotonic()
        while not self._ended.wait(_TICK):
            now = time.monotonic()
            passed, before = min(now - before, 2 * _TICK), now
            silent = 0.0 if self._said != seen else silent + passed
            seen = self._said
            if silent > self._allowed:
                self._hung(silent)
                return


class WatchdogHook(Hook):
    """Tell a watchdog of the steps of a trial. It is the trial's own, in no config."""

    priority = "VERY_HIGH"  # what other hooks do counts for the next step

    def __init__(self, watchdog: Watchdog) -> None:
        self.watchdog = watchdog

    def before_train(self, runner: Runner) -> None:
        """The first iteration starts the loader's workers and fills caches."""
        self.watchdog.allow(SLOW)

    def after_train_iter(self, *_args: Any, **_kwargs: Any) -> None:
        """An iteration has ended."""
        self.watchdog.step()

    def before_val(self, runner: Runner) -> None:
        """The first batch starts the loader's workers."""
        self.watchdog.allow(SLOW)

    def after_val_iter(self, runner: Runner, batch_idx: int, *_args: Any, **_kwargs: Any) -> None:
        """A batch has ended; after the last one the detections are scored."""
        loader = runner.val_dataloader
        if batch_idx + 1 < len(loader):
            self.watchdog.step()
        else:
            self.watchdog.allow(SLOW + SCORING * len(loader.dataset))

    def after_val(self, runner: Runner) -> None:
        """The first iteration after a validation may wait for the loader."""
        self.watchdog.allow(SLOW)
