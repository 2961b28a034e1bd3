"""The visualizer gets the same curve from an interrupted trial and from an uninterrupted one."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from ablations.store.record import CURVE_COLUMNS
from ablations.training.loss_curve import LossCurveHook

ITERATIONS = 25
VALIDATED = (12, 25)


class Shown:
    """A visualizer that remembers."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, dict[str, float]]] = []

    def add_scalars(self, scalars: dict[str, float], step: int) -> None:
        self.rows.append((step, scalars))


def runner_of(iteration: int) -> Any:
    rate = SimpleNamespace(get_lr=lambda: {"lr": [0.1]})
    return SimpleNamespace(
        model=None,
        visualizer=Shown(),
        iter=iteration,
        max_iters=ITERATIONS,
        optim_wrapper=rate,
        train_loop=SimpleNamespace(max_iters=ITERATIONS),
    )


def train(hook: LossCurveHook, runner: Any, last: int) -> None:
    """Iterations up to ``last``; the loss of iteration i is i."""
    hook.before_train(runner)
    for number in range(runner.iter + 1, last + 1):
        runner.iter = number - 1
        value = torch.tensor(float(number))
        hook.before_train_iter(runner)
        hook.after_train_iter(runner, number - 1, outputs={"loss": value, "loss_cls": value})
        runner.iter = number
        if number in VALIDATED:
            hook.after_val_epoch(runner, {"coco/AP": 40.0 + number, "coco/AP_L": float("nan")})


def test_rows_are_the_means_of_ten_iterations() -> None:
    runner = runner_of(0)
    train(LossCurveHook(flush=10), runner, ITERATIONS)
    losses = [
        (step, row["train/loss"]) for step, row in runner.visualizer.rows if "train/loss" in row
    ]
    assert losses == [(10, 5.5), (20, 15.5), (25, 23.0)]  # the mean of 1 .. 10, 11 .. 20, 21 .. 25
    assert all("train/loss_bbox" not in row for _, row in runner.visualizer.rows)  # it was NaN
    assert {"train/lr", "train/num_positive"} <= set(runner.visualizer.rows[0][1])
    scores = [(step, row) for step, row in runner.visualizer.rows if "val/AP" in row]
    assert scores == [(12, {"val/AP": 52.0}), (25, {"val/AP": 65.0})]


@pytest.mark.parametrize("stopped", [7, 10, 12, 17, 24])
def test_a_second_attempt_shows_what_one_without_a_break_shows(stopped: int) -> None:
    whole = runner_of(0)
    train(LossCurveHook(flush=10), whole, ITERATIONS)
    first, second = LossCurveHook(flush=10), LossCurveHook(flush=10)
    train(first, runner_of(0), stopped)
    checkpoint: dict[str, Any] = {}
    first.before_save_checkpoint(runner_of(stopped), checkpoint)
    second.after_load_checkpoint(runner_of(stopped), checkpoint)
    resumed = runner_of(stopped)
    train(second, resumed, ITERATIONS)
    assert resumed.visualizer.rows == whole.visualizer.rows
    assert np.shape(second.rows) == (ITERATIONS, len(CURVE_COLUMNS))
