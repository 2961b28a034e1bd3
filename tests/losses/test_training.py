"""Training with our loss in place of mmdet's is the same, step by step."""

import pytest
import torch
from mmdet.registry import MODELS
from mmdet.utils import register_all_modules
from mmengine.structures import InstanceData

from .test_ohem import head_config

STEPS = 50


def loss_curve(loss_cls):
    """Losses of a small RetinaNet head that learns two images from fixed random features."""
    register_all_modules(init_default_scope=False)
    torch.manual_seed(0)
    head = MODELS.build(head_config(type="RetinaHead", loss_cls={**loss_cls, "use_sigmoid": True}))
    head.init_weights()
    features = [torch.randn(2, 8, size, size) for size in (8, 4)]
    truth = [
        InstanceData(bboxes=torch.tensor([[0.0, 0, 30, 30]]), labels=torch.tensor([1])),
        InstanceData(bboxes=torch.tensor([[10.0, 10, 60, 60]]), labels=torch.tensor([2])),
    ]
    metas = [{"img_shape": (64, 64), "pad_shape": (64, 64)}] * 2
    optimizer = torch.optim.SGD(head.parameters(), lr=0.1, momentum=0.9)
    curve = []
    for _ in range(STEPS):
        losses = head.loss_by_feat(*head(features), truth, metas)
        loss = sum(losses["loss_cls"])
        optimizer.zero_grad()
        (loss + sum(losses["loss_bbox"])).backward()
        optimizer.step()
        curve.append(loss.item())
    return torch.tensor(curve)


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_training_follows_mmdets_focal_loss(gamma):
    ours = loss_curve({"type": "ablations.FocalLoss", "gamma": gamma})
    theirs = loss_curve({"type": "mmdet.FocalLoss", "gamma": gamma})
    assert theirs[-1] < 0.5 * theirs[0]
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=0)


def test_mmdets_own_losses_are_arms_as_they_are():
    curve = loss_curve({"type": "mmdet.GHMC", "bins": 10, "momentum": 0.7})
    assert curve.isfinite().all() and curve[-1] < curve[0]
