"""The losses of softmax heads against PyTorch's, in float64, and at extreme logits."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from mmdet.registry import MODELS
from mmengine.registry import DefaultScope

from ablations.losses.softmax import SoftmaxCrossEntropyLoss, SoftmaxFocalLoss, softmax_focal_loss

ROWS, COLUMNS = 40, 6  # five classes and background
LAST = COLUMNS - 1


def batch(dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(ROWS, COLUMNS, generator=generator, dtype=torch.float64)
    target = torch.randint(0, COLUMNS, (ROWS,), generator=generator)
    weight = (torch.rand(ROWS, generator=generator, dtype=torch.float64) < 0.8).double()
    weight[::7] *= 1.5
    return logits.to(dtype).requires_grad_(), target, weight.to(dtype)


def plainly(logits, target, gamma: float, alpha: float | None) -> torch.Tensor:
    """The definition, for automatic differentiation."""
    p_t = logits.softmax(1).gather(1, target[:, None]).squeeze(1)
    alpha_t = 1.0 if alpha is None else torch.where(target == LAST, 1 - alpha, alpha)
    return -alpha_t * (1 - p_t) ** gamma * p_t.log()


@pytest.mark.parametrize(
    ("gamma", "alpha"), itertools.product([0.0, 0.5, 1.0, 2.0, 5.0], [None, 0.25])
)
def test_value_and_gradient_are_the_definitions(gamma: float, alpha: float | None) -> None:
    logits, target, weight = batch()
    expected = (plainly(logits, target, gamma, alpha) * weight).sum() / 7
    (wanted,) = torch.autograd.grad(expected, logits)
    found = softmax_focal_loss(logits, target, weight, gamma=gamma, alpha=alpha, avg_factor=7)
    (gradient,) = torch.autograd.grad(found, logits)
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)  # mmdet adds an epsilon
    assert torch.allclose(gradient, wanted, rtol=1e-6, atol=1e-12)


def test_gamma_0_is_pytorchs_cross_entropy() -> None:
    logits, target, _ = batch()
    each = softmax_focal_loss(logits, target, gamma=0.0, reduction="none")
    assert torch.allclose(each, F.cross_entropy(logits, target, reduction="none"), rtol=1e-12)
    mean = SoftmaxCrossEntropyLoss()(logits, target)
    assert mean.item() == pytest.approx(F.cross_entropy(logits, target).item(), rel=1e-12)
    total = softmax_focal_loss(logits, target, gamma=0.0, reduction="sum", loss_weight=0.5)
    assert total.item() == pytest.approx(each.sum().item() / 2)


def test_in_mmdets_place_it_gives_mmdets_cross_entropy() -> None:
    with DefaultScope.overwrite_default_scope("mmdet"):
        theirs = MODELS.build(dict(type="CrossEntropyLoss", use_sigmoid=False, loss_weight=2.0))
        ours = MODELS.build(dict(type="ablations.SoftmaxCrossEntropyLoss", loss_weight=2.0))
    logits, target, weight = batch(torch.float32)
    pairs = [loss(logits, target, weight, avg_factor=9.0) for loss in (ours, theirs)]
    assert pairs[0].item() == pytest.approx(pairs[1].item(), rel=1e-6)
    gradients = [torch.autograd.grad(value, logits)[0] for value in pairs]
    assert torch.allclose(*gradients, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("size", [60.0, 1e3, 1e30])
def test_extreme_logits_have_finite_losses_and_gradients(gamma: float, size: float) -> None:
    logits = torch.zeros(2, 3)
    logits[:, 0] = size
    logits.requires_grad_()
    loss = softmax_focal_loss(logits, torch.tensor([0, 2]), gamma=gamma, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, logits)
    assert torch.isfinite(loss) and torch.isfinite(gradient).all()
    assert loss.item() == pytest.approx(size, rel=1e-3)
    assert gradient[0].abs().max() < 1e-6 and gradient[1, 0] == pytest.approx(1.0)


def test_a_row_of_weight_0_is_left_out_even_with_a_nan() -> None:
    logits, target, weight = batch()
    with torch.no_grad():
        logits[3] = torch.nan
    weight[3] = 0
    loss = softmax_focal_loss(logits, target, weight, gamma=2.0, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, logits)
    assert torch.isfinite(loss) and torch.isfinite(gradient).all()
    assert not gradient[3].any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target": torch.zeros(ROWS)}, "integer labels"),
        ({"target": torch.zeros(ROWS - 1, dtype=torch.long)}, "40 integer labels"),
        ({"target": torch.full((ROWS,), COLUMNS)}, r"holds 6, outside \[0, 5\]"),
        ({"target": torch.full((ROWS,), -1)}, "holds -1"),
        ({"weight": torch.ones(ROWS, COLUMNS)}, "weight must have shape"),
        ({"logits": torch.zeros(ROWS)}, r"shape \[N, C \+ 1\]"),
        ({"reduction": "average"}, "reduction='average'"),
        ({"reduction": "sum", "avg_factor": 3.0}, "avg_factor"),
    ],
)
def test_bad_input_is_named(change: dict, message: str) -> None:
    logits, target, weight = batch()
    with pytest.raises(ValueError, match=message):
        softmax_focal_loss(**{"logits": logits, "target": target, "weight": weight, **change})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gamma": -1.0}, "gamma"),
        ({"alpha": 1.5}, "alpha"),
        ({"use_sigmoid": True}, "use_sigmoid=True"),
        ({"reduction": "average"}, "reduction"),
    ],
)
def test_a_bad_parameter_is_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SoftmaxFocalLoss(**options)
