"""A trial without progress is noticed within a limit that fits it."""

import threading
import time

import pytest

from ablations.training import watchdog as module
from ablations.training.watchdog import FACTOR, LEAST, Watchdog


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_TICK", 0.02)


@pytest.mark.usefixtures("fast")
def test_silence_is_noticed_and_steps_prevent_it() -> None:
    hung = threading.Event()
    seen: list[float] = []

    def note(seconds: float) -> None:
        seen.append(seconds)
        hung.set()

    dog = Watchdog(note)
    dog.limit = 0.5
    dog.step()
    dog.start()
    for _ in range(8):
        time.sleep(0.1)
        dog.step()
    assert not hung.is_set()
    assert hung.wait(30)
    assert seen[0] > 0.5


@pytest.mark.usefixtures("fast")
def test_what_is_slow_and_rare_may_take_longer_and_an_ended_watch_says_nothing() -> None:
    hung = threading.Event()
    dog = Watchdog(lambda seconds: hung.set())
    dog.limit = 0.1
    dog.step()
    dog.allow(60.0)
    dog.start()
    assert not hung.wait(0.5)
    dog.end()
    dog.step()
    assert not hung.wait(0.5)


def test_the_limit_fits_the_longest_step(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    dog = Watchdog(lambda seconds: None)

    def step(seconds: float) -> float:
        now[0] += seconds
        dog.step()
        return dog._allowed

    assert step(1000.0) == LEAST  # what came before was no step
    assert step(2.0) == LEAST
    assert step(30.0) == FACTOR * 30.0
    assert step(1.0) == FACTOR * 30.0
    dog.allow(5.0)
    assert step(1000.0) == FACTOR * 30.0


@pytest.mark.usefixtures("fast")
def test_time_in_which_the_process_was_suspended_is_no_silence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hung = threading.Event()
    dog = Watchdog(lambda seconds: hung.set())
    dog.limit = 5.0
    dog.step()
    dog.start()
    real, jump = time.monotonic, [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: real() + jump[0])
    jump[0] = 3600.0
    assert not hung.wait(0.5)
    dog.end()
