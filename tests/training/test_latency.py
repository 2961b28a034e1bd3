"""The measured time of an image does not depend on other work of the machine."""

from types import SimpleNamespace

import pytest
import torch

from ablations.training import latency


class Clock:
    """A detector that takes 10 ms an image, and 100 ms in three calls of four; and its clock."""

    def __init__(self) -> None:
        self.now = 0.0
        self.calls = 0

    def eval(self) -> None: ...

    def test_step(self, _batch: object) -> None:
        self.calls += 1
        self.now += 0.01 if self.calls % 4 == 0 else 0.1


def test_disturbances_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(latency, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    loader = SimpleNamespace(dataset=[{"inputs": torch.zeros(3, 8, 8)}] * 4)
    found = latency.inference_ms(SimpleNamespace(model=clock, val_dataloader=loader))
    assert found == pytest.approx(10)
