"""The loss's split into positives and negatives."""

import math

import pytest
import torch
from mmdet.registry import MODELS

from ablations.training.loss_curve import Diverged, LossCurveHook, LossShare


@pytest.mark.usefixtures("scope")
@pytest.mark.parametrize("kind", ["ablations.FocalLoss", "mmdet.FocalLoss"])
def test_the_positives_share_is_the_sum_over_positive_windows(kind: str) -> None:
    loss = MODELS.build(dict(type=kind, gamma=2.0, alpha=0.25, use_sigmoid=True)).train()
    share = LossShare(loss)
    generator = torch.Generator().manual_seed(0)
    expected = 0.0
    share.start()
    for anchors in (40, 10):  # two pyramid levels
        logits = torch.randn(anchors, 3, generator=generator)
        labels = torch.randint(0, 4, (anchors,), generator=generator)  # 3 is background
        weight = (torch.rand(anchors, generator=generator) > 0.2).float()
        loss(logits, labels, weight, avg_factor=7)
        for x, label, w in zip(logits.double(), labels, weight, strict=True):
            if label < 3:
                p = torch.sigmoid(x[label])
                expected += float(-w * 0.25 * (1 - p) ** 2 * p.log() / 7)
    positive, _ = share.read()
    assert float(positive) == pytest.approx(expected, rel=1e-5)
    share.start()
    loss(torch.randn(5, 3), torch.full((5,), 3), avg_factor=1)
    assert share.read() == (0.0, 0)


@pytest.mark.usefixtures("scope")
def test_a_loss_that_cannot_be_split_has_no_share() -> None:
    loss = MODELS.build(dict(type="mmdet.GHMC")).train()
    share = LossShare(loss)
    loss(torch.randn(5, 3), torch.tensor([0, 1, 2, 3, 3]), torch.ones(5))
    assert math.isnan(share.read()[0])


@pytest.mark.usefixtures("scope")
def test_watching_a_loss_with_a_memory_does_not_change_it() -> None:
    logits, labels = torch.randn(50, 3), torch.randint(0, 4, (50,))
    plain, watched = (MODELS.build(dict(type="mmdet.GHMC", momentum=0.5)) for _ in range(2))
    share = LossShare(watched)
    for _ in range(3):
        share.start()
        expected, found = (loss(logits, labels, torch.ones(50)) for loss in (plain, watched))
        share.read()
        assert found == expected


def test_a_loss_that_is_not_finite_is_a_divergence_with_its_iteration() -> None:
    hook = LossCurveHook()
    hook._waiting = [(1, 0.1, 2.0, 1.0, 1.0, 0.5, math.nan, 3), (2, 0.1, math.inf, 1, 1, 1, 1, 3)]
    with pytest.raises(Diverged, match="inf at iteration 2"):
        hook.take_waiting()
    assert [row[0] for row in hook.rows] == [1, 2]
    assert hook.rows[0][6] == 0.5  # negative = classification - positive
