"""Agreement with the formulas and with other implementations."""

import math
import sys

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck

from ablations.losses import formulas
from ablations.losses.fused import pairwise_loss
from ablations.losses.pairs import PairLoss
from tests.helpers import losses as L
from tests.helpers.batches import make_batch

every_engine = pytest.mark.usefixtures("engine")
GAMMAS = [0, 0.1, 0.5, 1, 1.5, 2, 2.3, 5, 10]


def reference(batch, pointwise, alpha=None):
    """[N, C]: ``pointwise`` of x_t, one-hot and by automatic differentiation."""
    logits, target, weight = batch
    y = F.one_hot(target, logits.shape[1] + 1)[:, :-1].to(logits)
    factor = 1.0 if alpha is None else alpha * y + (1 - alpha) * (1 - y)
    return factor * pointwise(logits * (2 * y - 1)) * weight[:, None]


def focal(gamma):
    return lambda x_t: -(torch.sigmoid(-x_t) ** gamma) * F.logsigmoid(x_t)


def value_and_gradient(loss, logits):
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    return loss.detach(), gradient


def assert_same(ours, theirs, logits, rtol=1e-9):
    value, gradient = value_and_gradient(ours, logits)
    expected_value, expected_gradient = value_and_gradient(theirs, logits)
    torch.testing.assert_close(value, expected_value, rtol=rtol, atol=1e-300)
    torch.testing.assert_close(gradient, expected_gradient, rtol=rtol, atol=1e-300)


# The paper's arithmetic: CE(0.9) = -log 0.9, FL(0.9) = 0.1^2 CE; CE(0.1) = -log 0.1, FL = 0.9^2 CE.
@pytest.mark.parametrize(
    ("p_t", "cross_entropy", "focal_loss"),
    [(0.9, 0.105361, 0.00105361), (0.1, 2.30259, 1.86509)],
)
def test_worked_numbers(p_t, cross_entropy, focal_loss):
    logit = math.log(p_t / (1 - p_t))
    as_positive = torch.tensor([[logit]]), torch.tensor([0])
    as_negative = torch.tensor([[-logit]]), torch.tensor([1])
    for logits, target in (as_positive, as_negative):
        for expected, loss in (
            (cross_entropy, L.cross_entropy(logits, target)),
            (focal_loss, L.focal_loss(logits, target, alpha=None)),
        ):
            assert loss.item() == pytest.approx(expected, rel=5e-6)


@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("alpha", [None, 0.25])
@every_engine
def test_focal_loss_is_the_formula(batch, gamma, alpha):
    ours = L.focal_loss(*batch, gamma=gamma, alpha=alpha, reduction="none")
    assert_same(ours, reference(batch, focal(gamma), alpha), batch.logits)


@pytest.mark.parametrize(
    ("name", "options", "pointwise"),
    [
        ("cross_entropy", {}, lambda x: -F.logsigmoid(x)),
        ("balanced_cross_entropy", {"alpha": 0.75}, lambda x: -F.logsigmoid(x)),
        ("focal_star_loss", {"gamma": 4.0, "beta": 1.0}, lambda x: -F.logsigmoid(4 * x + 1) / 4),
        ("hinge_loss", {"margin": 0.7}, lambda x: (0.7 - torch.sigmoid(x)).clamp(min=0)),
        (
            "poly1_focal_loss",
            {"gamma": 1.5, "alpha": 0.3, "epsilon": -0.5},
            lambda x: focal(1.5)(x) - 0.5 * torch.sigmoid(-x) ** 2.5,
        ),
    ],
)
@every_engine
def test_symmetric_losses_are_their_formulas(batch, name, options, pointwise):
    ours = getattr(L, name)(*batch, **options, reduction="none")
    assert_same(ours, reference(batch, pointwise, options.get("alpha")), batch.logits)


@every_engine
def test_asymmetric_loss_is_its_formula(batch):
    logits, target, weight = batch
    y = F.one_hot(target, logits.shape[1] + 1)[:, :-1].bool()
    shifted = (logits.sigmoid() - 0.05).clamp(min=0)
    negative = -(shifted**4) * torch.log(1 - shifted)
    expected = torch.where(y, focal(1.0)(logits), negative) * weight[:, None]
    ours = L.asymmetric_loss(*batch, gamma_pos=1, gamma_neg=4, margin=0.05, reduction="none")
    assert_same(ours, expected, logits)


@pytest.mark.parametrize(
    "formula",
    [
        formulas.Focal(0.0),
        formulas.Focal(0.1),
        formulas.Focal(0.5),
        formulas.Focal(2.0),
        formulas.Focal(10.0),
        formulas.FocalStar(2.0, 1.0),
        formulas.Hinge(0.6),
        formulas.Poly1Focal(2.0, 1.5),
        formulas.Asymmetric(1.0, 0.5, 0.1),
        formulas.Asymmetric(0.0, 0.0, 0.2),
        formulas.Asymmetric(1.0, 3.0, 0.0),
    ],
    ids=repr,
)
@every_engine
def test_gradcheck(formula):
    logits, target, weight = make_batch(count=9, classes=3, std=1.5)
    pair = PairLoss(formula, 0.3, 0.7)
    for options in ({"reduction": "none"}, {"reduction": "sum"}, {"avg_factor": 3.0}):
        assert gradcheck(lambda x, o=options: pairwise_loss(pair, x, target, weight, **o), logits)


def by_mmdet(batch, gamma, alpha, **options):
    from mmdet.models.losses import FocalLoss

    return FocalLoss(gamma=gamma, alpha=alpha)(batch.logits, batch.target, batch.weight, **options)


def elementwise_by_fvcore(batch, gamma, alpha):
    from fvcore.nn import sigmoid_focal_loss

    y = F.one_hot(batch.target, batch.logits.shape[1] + 1)[:, :-1].to(batch.logits)
    return sigmoid_focal_loss(batch.logits, y, alpha, gamma, "none") * batch.weight[:, None]


def elementwise_by_torchvision(batch, gamma, alpha):
    y = F.one_hot(batch.target, batch.logits.shape[1] + 1)[:, :-1].to(batch.logits)
    loss = import_torchvision().ops.sigmoid_focal_loss(batch.logits, y, alpha, gamma, "none")
    return loss * batch.weight[:, None]


def import_torchvision():
    """torchvision, also where its compiled operators do not fit the installed torch."""
    if "torchvision" not in sys.modules and not hasattr(torch.ops.torchvision, "nms"):
        try:
            import torchvision
        except RuntimeError:
            for name in [name for name in sys.modules if name.startswith("torchvision")]:
                del sys.modules[name]
            library = torch.library.Library("torchvision", "DEF")
            for name in ("nms", "qnms"):
                library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            import_torchvision.library = library  # the operators live as long as this
    import torchvision

    return torchvision


def batches():
    """Random input with ignored anchors, without positives, and without anchors."""
    batch = make_batch()
    yield batch
    yield batch._replace(target=torch.full_like(batch.target, 7))
    yield batch._replace(weight=torch.zeros_like(batch.weight))
    yield make_batch(count=0)


@pytest.mark.parametrize("gamma", [0.5, 2])
@pytest.mark.parametrize(
    "options",
    [{"reduction_override": "none"}, {"reduction_override": "sum"}, {"avg_factor": 13}, {}],
    ids=repr,
)
@every_engine
def test_agrees_with_mmdet(gamma, options):
    for batch in batches():
        if len(batch.target) == 0 and not options:
            continue  # mmdet's mean of nothing is NaN
        ours = {**options}
        if "reduction_override" in ours:
            ours["reduction"] = ours.pop("reduction_override")
        assert_same(
            L.focal_loss(*batch, gamma=gamma, alpha=0.25, **ours),
            by_mmdet(batch, gamma, 0.25, **options),
            batch.logits,
        )


@pytest.mark.parametrize("gamma", [0.5, 2])
@every_engine
def test_agrees_with_torchvision(gamma):
    for batch in batches():
        ours = L.focal_loss(*batch, gamma=gamma, alpha=0.25, reduction="none")
        assert_same(ours, elementwise_by_torchvision(batch, gamma, 0.25), batch.logits)


@pytest.mark.parametrize("gamma", [0.5, 2])
@every_engine
def test_agrees_with_fvcore(gamma):
    # fvcore always computes in float32, so compare norms.
    for batch in batches():
        ours = L.focal_loss(*batch, gamma=gamma, alpha=0.25, reduction="none")
        theirs = elementwise_by_fvcore(batch, gamma, 0.25)
        for our, their in zip(
            value_and_gradient(ours, batch.logits),
            value_and_gradient(theirs, batch.logits),
            strict=True,
        ):
            assert (our - their).norm() <= 1e-6 * our.norm()


@pytest.mark.parametrize("gamma", GAMMAS)
@every_engine
def test_float32_is_float64_to_1e_6_in_norm(gamma):
    exact, batch = make_batch(), make_batch(dtype=torch.float32)
    exact = exact._replace(logits=batch.logits.detach().double().requires_grad_())
    for reduction in ("none", "sum"):
        ours = L.focal_loss(*batch, gamma=gamma, reduction=reduction)
        theirs = L.focal_loss(*exact, gamma=gamma, reduction=reduction)
        for single, double in zip(
            value_and_gradient(ours, batch.logits),
            value_and_gradient(theirs, exact.logits),
            strict=True,
        ):
            assert single.dtype == torch.float32
            assert (single.double() - double).norm() <= 1e-6 * double.norm()


def test_small_losses_keep_their_relative_precision():
    # At x = -12 a float32 log(1 - p) has lost most of its digits.
    logits = torch.tensor([[-12.0]], requires_grad=True)
    loss = L.cross_entropy(logits, torch.tensor([1]))
    assert loss.item() == pytest.approx(math.log1p(math.exp(-12)), rel=1e-6)


@every_engine
def test_gamma_zero_is_cross_entropy_and_alpha_a_half_is_half_of_it(batch):
    for gamma_zero, expected in (
        (L.focal_loss(*batch, gamma=0, alpha=None), L.cross_entropy(*batch)),
        (L.focal_loss(*batch, gamma=0, alpha=0.9), L.balanced_cross_entropy(*batch, alpha=0.9)),
        (2 * L.focal_loss(*batch, gamma=0, alpha=0.5), L.cross_entropy(*batch)),
        (L.focal_star_loss(*batch, gamma=1, beta=0), L.cross_entropy(*batch)),
        (L.poly1_focal_loss(*batch, epsilon=0), L.focal_loss(*batch)),
        (
            L.asymmetric_loss(*batch, gamma_pos=2, gamma_neg=2, margin=0),
            L.focal_loss(*batch, alpha=None),
        ),
    ):
        assert_same(gamma_zero, expected, batch.logits, rtol=1e-12)


@every_engine
def test_alpha_goes_to_positives(batch):
    positive = F.one_hot(batch.target, 8)[:, :-1].bool()
    only_positives = L.focal_loss(*batch, alpha=1.0, reduction="none")
    only_negatives = L.focal_loss(*batch, alpha=0.0, reduction="none")
    assert only_positives[~positive].eq(0).all()
    assert only_negatives[positive].eq(0).all()
    assert only_positives[positive].sum() > 0 and only_negatives[~positive].sum() > 0
