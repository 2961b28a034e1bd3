"""A detector's size: parameters, and the operations of one image."""

import contextlib
import functools
import io
import logging
import warnings
from typing import Any

import torch
from mmengine.dataset import pseudo_collate
from mmengine.runner import Runner

from ablations.training.distributed import bare_model


def complexity(runner: Runner) -> dict[str, float]:
    """Parameters and operations of the detector for the first validation image, by mmengine's
    ``get_model_complexity_info``.

    ``flops`` are multiply-adds, as mmengine counts them: of convolutions, linear layers and batch
    norms, without post-processing. Those of a second stage follow the number of proposals
    that the trained first stage makes of this image.

    Returns:
        ``params``, frozen ones too; ``flops``; ``height`` and ``width`` of the network's input.
    """
    from mmengine.analysis import get_model_complexity_info  # slow to import

    model = bare_model(runner)
    model.eval()
    batch = pseudo_collate([runner.val_dataloader.dataset[0]])
    data: Any = model.data_preprocessor(batch, False)
    images, forward = data["inputs"], model.forward
    model.forward = functools.partial(forward, data_samples=data["data_samples"])
    try:
        with (
            torch.no_grad(),
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            logging.disable(logging.WARNING)  # a line for each operation that is not counted
            found = get_model_complexity_info(
                model, inputs=(images,), show_table=False, show_arch=False
            )
    finally:
        logging.disable(logging.NOTSET)
        del model.forward
    height, width = images.shape[-2:]
    return {
        "params": int(found["params"]),
        "flops": int(found["flops"]),
        "height": int(height),
        "width": int(width),
    }
