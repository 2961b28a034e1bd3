"""How long a trained detector takes for one image: the time of Table 1e and Figure 2."""

import statistics
import time

import torch
from mmengine.dataset import pseudo_collate
from mmengine.runner import Runner

from ablations.training.distributed import bare_model

IMAGES = 20
WARM_UP = 3


def inference_ms(runner: Runner) -> float:
    """Median wall time in ms of one validation image in a batch of its own.

    Preprocessing, network and post-processing are in it, reading the image is not.
    """
    model = bare_model(runner)
    model.eval()
    dataset = runner.val_dataloader.dataset
    seconds = []
    with torch.no_grad():
        for number in range(WARM_UP + IMAGES):
            batch = pseudo_collate([dataset[number % len(dataset)]])
            _wait()
            began = time.perf_counter()
            model.test_step(batch)
            _wait()
            seconds.append(time.perf_counter() - began)
    return 1000 * statistics.median(seconds[WARM_UP:])


def _wait() -> None:
    """Until the device has done what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
