"""A target for every logit, as YOLOv3's head gives it."""

import pytest
import torch
import torch.nn.functional as F

from ablations.losses.modules import CrossEntropyLoss, FocalLoss

SHAPE = (2, 7, 3)


def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(SHAPE, generator=generator, dtype=torch.float64).requires_grad_()
    target = (torch.rand(SHAPE, generator=generator) < 0.3).double()
    weight = (torch.rand(2, 7, 1, generator=generator) < 0.6).double()
    return logits, target, weight


@pytest.mark.parametrize("reduction", ["sum", "mean", "none"])
def test_cross_entropy_is_pytorchs(reduction: str) -> None:
    logits, target, weight = batch()
    found = CrossEntropyLoss(reduction=reduction)(logits, target, weight=weight)
    expected = F.binary_cross_entropy_with_logits(
        logits, target, weight.expand(SHAPE), reduction=reduction
    )
    assert torch.allclose(found, expected, rtol=1e-9)
    assert found.shape == expected.shape
    gradients = [torch.autograd.grad(value.sum(), logits)[0] for value in (found, expected)]
    assert torch.allclose(*gradients, rtol=1e-9)


def test_focal_loss_is_that_of_the_same_pairs_with_labels() -> None:
    logits, target, weight = batch()
    loss = FocalLoss(gamma=2.0, alpha=0.25, reduction="sum")
    rows = logits.reshape(-1, 1)
    labels = 1 - target.reshape(-1).long()  # 0 is the class, 1 background
    expected = loss(rows, labels, weight.expand(SHAPE).reshape(-1))
    assert loss(logits, target, weight).item() == pytest.approx(expected.item(), rel=1e-12)


def test_soft_targets_are_refused_with_their_value() -> None:
    logits, target, _ = batch()
    with pytest.raises(ValueError, match=r"target holds 0\.05; .*no label smoothing"):
        FocalLoss()(logits, target * 0.9 + 0.05)
