"""The embedded default trains as mmdet's own parts do, step by step.

What the harness replaces for speed (targets, preprocessing, the data set's cache, the loss, the
fused optimizer, the order of memory) and what ``bench-sweep`` compares it with
(``benchmarks/stock.py``) see the same images and start from the same weights. In float64 all
fifty losses agree to the last digits. In float32 Adam, whose first steps follow the gradient's
sign, multiplies a difference in rounding by some ten every three steps: there, the steps before
that are compared. mmdet's cross entropy rounds to float32 whatever it is given; in float64 it is
mmdet's focal loss with gamma = 0 that ours is compared with, which is the same function.
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
from benchmarks.stock import stock

LOSSES = {
    "FL": dict(type="ablations.FocalLoss", gamma=2.0, alpha=0.25, use_sigmoid=True),
    "CE": dict(type="ablations.CrossEntropyLoss", use_sigmoid=True),
}
IMAGES = 240  # twenty batches: the last thirty steps see images and targets that were kept
CE_WITHOUT_ROUNDING = dict(
    type="FocalLoss", gamma=0.0, alpha=0.5, loss_weight=2.0, use_sigmoid=True
)


def train(cfg: Config, dtype: torch.dtype, steps: int) -> list[float]:
    """The losses of the first iterations, with the schedule's warm-up."""
    images = DATASETS.build(cfg.train_dataloader.dataset)
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.init_weights()
    model.to(dtype).train()
    if cfg.model.bbox_head.type == "CachedRetinaHead":
        model.to(memory_format=torch.channels_last)  # as ChannelsLastHook does
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper)
    peak, (warmup, _) = cfg.optim_wrapper.optimizer.lr, cfg.param_scheduler
    stream = iter(StreamSampler(images, seed=0))
    losses = []
    for step in range(steps):
        factor = warmup.start_factor + (1 - warmup.start_factor) * step / warmup.end
        for group in optimizer.optimizer.param_groups:
            group["lr"] = factor * peak
        batch = [
            images[index] for index in itertools.islice(stream, cfg.train_dataloader.batch_size)
        ]
        packed = model.data_preprocessor(copy.deepcopy(pseudo_collate(batch)), training=True)
        total, _ = model.parse_losses(
            model(packed["inputs"].to(dtype), packed["data_samples"], mode="loss")
        )
        optimizer.update_params(total)
        losses.append(total.item())
    return losses


@pytest.mark.usefixtures("scope")
@pytest.mark.parametrize(
    ("loss", "dtype", "steps", "tolerance"),
    [
        ("FL", torch.float64, 50, 1e-9),
        ("CE", torch.float64, 50, 1e-9),
        ("FL", torch.float32, 5, 1e-4),
        ("CE", torch.float32, 5, 1e-4),
    ],
)
def test_losses_agree_with_the_stock_parts(
    digits: Path, loss: str, dtype: torch.dtype, steps: int, tolerance: float
) -> None:
    cfg = Config.fromfile("configs/retinanet_r18_digits.py")
    cfg.train_dataloader.dataset.dataset.data_root = str(digits)
    if steps * cfg.train_dataloader.batch_size > IMAGES:
        cfg.train_dataloader.dataset.dataset.indices = IMAGES
    cfg.model.bbox_head.loss_cls = LOSSES[loss]
    theirs = Config(stock(cfg._cfg_dict.to_dict()))
    assert theirs.model.bbox_head.type == "RetinaHead"
    if (loss, dtype) == ("CE", torch.float64):
        theirs.model.bbox_head.loss_cls = CE_WITHOUT_ROUNDING
    ours, mmdets = train(cfg, dtype, steps), train(theirs, dtype, steps)
    assert steps < 50 or ours[-1] < 0.9 * ours[0]
    np.testing.assert_allclose(ours, mmdets, rtol=tolerance)


@pytest.mark.usefixtures("scope")
@pytest.mark.parametrize("name", ["retinanet", "ssd", "yolov3", "faster_rcnn", "fcos", "atss"])
def test_a_detector_does_not_depend_on_the_order_in_memory(digits: Path, name: str) -> None:
    cfg = Config.fromfile(f"configs/{name}_r18_digits.py")
    data = cfg.train_dataloader.dataset
    data.dataset.data_root, data.dataset.indices = str(digits), 4
    images = DATASETS.build(data)
    totals = []
    for order in (torch.contiguous_format, torch.channels_last):
        torch.manual_seed(0)
        model = MODELS.build(cfg.model)
        model.init_weights()
        model.to(memory_format=order).train()
        packed = model.data_preprocessor(pseudo_collate([*images]), training=True)
        inputs = packed["inputs"].contiguous(memory_format=order)
        torch.manual_seed(0)  # Faster R-CNN draws its proposals
        losses = model(inputs, packed["data_samples"], mode="loss")
        totals.append(model.parse_losses(losses)[0].item())
    assert totals[0] == pytest.approx(totals[1], rel=1e-4)
