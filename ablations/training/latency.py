"""Measure a detector's time for one image, as in Table 1e and Figure 2."""

import statistics
import time
from typing import Any

import torch
from mmengine.dataset import pseudo_collate
from mmengine.runner import Runner

from ablations.training.distributed import bare_model

IMAGES = 20
REPEATS = 5


def inference_ms(runner: Runner) -> float:
    """Wall time in ms of one validation image in a batch of its own: median over images.

    It includes preprocessing, network and post-processing, but not reading the image. For each
    image the fastest of ``REPEATS`` counts, because other work on the machine and the first use of
    a shape only make it slower. Other trials that run all the time slow every repeat.
    """
    model = bare_model(runner)
    model.eval()
    dataset = runner.val_dataloader.dataset
    batches = [pseudo_collate([dataset[number % len(dataset)]]) for number in range(IMAGES)]
    with torch.no_grad():
        fastest = [min(_seconds(model, batch) for _ in range(REPEATS)) for batch in batches]
    return 1000 * statistics.median(fastest)


def _seconds(model: Any, batch: Any) -> float:
    _wait()
    began = time.perf_counter()
    model.test_step(batch)
    _wait()
    return time.perf_counter() - began


def _wait() -> None:
    """Wait until the device is idle."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
