"""The embedded default trained with our focal loss follows mmdet's, step by step.

In float32 two trainings that differ in the last bit only drift apart after some twenty steps, the
faster as Adam's first steps follow the gradient's sign: there, the first steps are compared. In
float64 the drift stays out of sight for all fifty.
"""

import copy
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.registry import DATASETS, MODELS
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.optim import build_optim_wrapper

from ablations.training.stream import StreamSampler


def train(loss: dict, data: Path, head: str, dtype: torch.dtype, steps: int) -> list[float]:
    """The losses of the first iterations, with the schedule's warm-up."""
    cfg = Config.fromfile("configs/retinanet_r18_digits.py")
    cfg.model.bbox_head.update(type=head, loss_cls=loss)
    dataset = cfg.train_dataloader.dataset
    dataset.dataset.data_root = str(data)
    images = DATASETS.build(dataset)
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.init_weights()
    model.to(dtype).train()
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper)
    peak, (warmup, _) = cfg.optim_wrapper.optimizer.lr, cfg.param_scheduler
    stream = iter(StreamSampler(images, seed=0))
    losses = []
    for step in range(steps):
        factor = warmup.start_factor + (1 - warmup.start_factor) * step / warmup.end
        for group in optimizer.optimizer.param_groups:
            group["lr"] = factor * peak
        batch = [images[index] for index in itertools.islice(stream, 16)]
        packed = model.data_preprocessor(copy.deepcopy(pseudo_collate(batch)), training=True)
        total, _ = model.parse_losses(
            model(packed["inputs"].to(dtype), packed["data_samples"], mode="loss")
        )
        optimizer.update_params(total)
        losses.append(total.item())
    return losses


@pytest.mark.usefixtures("scope")
@pytest.mark.parametrize(("dtype", "steps"), [(torch.float32, 20), (torch.float64, 50)])
def test_losses_agree_with_mmdets_focal_loss(digits: Path, dtype: torch.dtype, steps: int) -> None:
    settings = dict(gamma=2.0, alpha=0.25, use_sigmoid=True)
    ours, mmdets = (
        train(dict(type=kind, **settings), digits, head, dtype, steps)
        for kind, head in (
            ("ablations.FocalLoss", "CachedRetinaHead"),
            ("mmdet.FocalLoss", "RetinaHead"),
        )
    )
    assert ours[-1] < 0.9 * ours[0]
    np.testing.assert_allclose(ours, mmdets, rtol=1e-4)
