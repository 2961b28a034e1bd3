"""Extreme logits, half precision, special cases of autograd, compilation, and bad input."""

import ast
import textwrap
from pathlib import Path

import pytest
import torch
from torch.autograd import gradgradcheck

from ablations.losses import formulas, fused, modules
from ablations.losses.fused import pairwise_loss
from ablations.losses.pairs import PairLoss
from tests.helpers import losses as L
from tests.helpers.batches import make_batch

every_engine = pytest.mark.usefixtures("engine")
GAMMAS = [0, 0.1, 0.5, 1, 2, 3.7, 10]
OTHERS = [
    formulas.FocalStar(2.0, 1.0),
    formulas.FocalStar(0.1, -1.0),
    formulas.Hinge(0.5),
    formulas.Poly1Focal(0.5, 1.0),
    formulas.Asymmetric(0.5, 0.5, 0.05),
    formulas.Asymmetric(0.0, 4.0, 0.0),
]
DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("formula", [*map(formulas.Focal, GAMMAS), *OTHERS], ids=repr)
@every_engine
def test_finite_at_any_logit(dtype, formula):
    largest = 1e4 if dtype == torch.float32 else 6e4
    magnitudes = torch.tensor([largest, 500, 104, 89, 88, 50, 40, 20, 17, 5, 1e-3, 1e-30, 0])
    logits = torch.cat([-magnitudes, magnitudes]).to(dtype)[:, None].requires_grad_()
    for label in (0, 1):
        target = torch.full((len(logits),), label)
        for reduction in ("none", "sum"):
            loss = pairwise_loss(PairLoss(formula), logits, target, reduction=reduction)
            (gradient,) = torch.autograd.grad(loss.sum(), logits)
            assert loss.dtype == torch.promote_types(dtype, torch.float32)
            assert gradient.dtype == dtype
            assert loss.isfinite().all() and gradient.isfinite().all()
            # More logit is a greater loss for a negative and a smaller one for a positive.
            assert (gradient <= 0 if label == 0 else gradient >= 0).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@every_engine
def test_half_precision_is_computed_in_float32(dtype):
    half = make_batch(dtype=dtype, count=4000, classes=20)
    single = half._replace(logits=half.logits.detach().float().requires_grad_())
    loss, expected = (L.focal_loss(*batch, avg_factor=10) for batch in (half, single))
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=0)
    gradients = (
        torch.autograd.grad(loss, half.logits)[0].float(),
        torch.autograd.grad(expected, single.logits)[0],
    )
    assert (gradients[0] - gradients[1]).norm() < torch.finfo(dtype).eps * gradients[1].norm()


def test_float16_gradient_is_scaled_before_it_is_rounded():
    # An easy negative's gradient of 4e-10 is zero in float16, and 3e-5 after a loss scaler.
    logits = torch.tensor([[-7.0]], dtype=torch.float16, requires_grad=True)
    (L.focal_loss(logits, torch.tensor([1]), avg_factor=4.0) * 2.0**16).backward()
    exact = torch.tensor([[-7.0]], dtype=torch.float64, requires_grad=True)
    (L.focal_loss(exact, torch.tensor([1]), avg_factor=4.0) * 2.0**16).backward()
    assert logits.grad.item() == pytest.approx(exact.grad.item(), rel=1e-2)


@every_engine
def test_an_ignored_anchor_may_hold_anything(batch):
    logits, target, weight = batch
    garbage = logits.detach().clone()
    garbage[weight == 0] = torch.nan
    garbage.requires_grad_()
    for reduction in ("none", "sum"):
        loss = L.focal_loss(garbage, target, weight, reduction=reduction)
        (gradient,) = torch.autograd.grad(loss.sum(), garbage)
        expected = L.focal_loss(logits, target, weight, reduction=reduction)
        assert torch.equal(loss, expected)
        assert gradient[weight == 0].eq(0).all()
    pairs = weight[:, None].expand_as(logits)
    torch.testing.assert_close(
        L.focal_loss(garbage, target, pairs, reduction="none"),
        loss.new_tensor(L.focal_loss(garbage, target, weight, reduction="none").tolist()),
    )


@every_engine
def test_a_nan_logit_that_counts_is_never_hidden(batch):
    logits = batch.logits.detach().clone()
    logits[batch.weight.nonzero()[0, 0], 0] = torch.nan
    assert L.focal_loss(logits, batch.target, batch.weight).isnan()


@every_engine
def test_empty_input_backpropagates():
    batch = make_batch(count=0)
    for options in ({}, {"avg_factor": 1.0}, {"reduction": "sum"}, {"reduction": "none"}):
        loss = L.focal_loss(*batch, **options).sum()
        (gradient,) = torch.autograd.grad(loss, batch.logits)
        assert loss == 0 and gradient.shape == (0, 7)


@every_engine
def test_weights_of_every_shape_and_type(batch):
    logits, target, weight = batch
    expected = L.focal_loss(logits, target, reduction="none") * weight[:, None]
    full = weight[:, None].expand_as(logits)
    for given in (weight, weight[:, None], full, full.flatten(), weight.float()):
        torch.testing.assert_close(L.focal_loss(logits, target, given, reduction="none"), expected)
    kept = weight > 0
    for given in (kept, kept.long()):
        torch.testing.assert_close(
            L.focal_loss(logits, target, given, reduction="sum"),
            L.focal_loss(logits[kept], target[kept], reduction="sum"),
        )


@every_engine
def test_labels_of_every_integer_type_and_strided_logits(batch):
    logits, target, weight = batch
    expected = L.focal_loss(logits, target, weight)
    for dtype in (torch.uint8, torch.int32):
        assert L.focal_loss(logits, target.to(dtype), weight) == expected
    strided = logits.detach().T.contiguous().T.requires_grad_()
    (gradient,) = torch.autograd.grad(L.focal_loss(strided, target, weight), strided)
    assert torch.equal(gradient, torch.autograd.grad(expected, logits)[0])


@every_engine
def test_repeats_to_the_bit(batch):
    first, second = (
        torch.autograd.grad(L.focal_loss(*batch, gamma=0.3), batch.logits)[0] for _ in range(2)
    )
    assert torch.equal(first, second)


@every_engine
def test_a_retained_graph_gives_the_gradient_again(batch):
    loss = 3 * L.focal_loss(*batch)
    (first,) = torch.autograd.grad(loss, batch.logits, retain_graph=True)
    kept = first.clone()
    (second,) = torch.autograd.grad(loss, batch.logits)
    torch.testing.assert_close(second, kept)
    assert torch.equal(first, kept)  # what was handed out is not touched again


@pytest.mark.parametrize(
    "formula", [formulas.Focal(0.0), formulas.Focal(0.5), formulas.Focal(2.0), *OTHERS]
)
@every_engine
def test_second_derivative(formula):
    logits, target, weight = make_batch(count=9, classes=3, std=1.5)
    for reduction in ("none", "sum"):
        assert gradgradcheck(
            lambda x, r=reduction: pairwise_loss(PairLoss(formula), x, target, weight, reduction=r),
            logits,
        )


@every_engine
def test_avg_factor_may_be_a_tensor(batch):
    expected = L.focal_loss(*batch, avg_factor=7.0)
    factor = torch.tensor(7.0, dtype=torch.float64)
    torch.testing.assert_close(L.focal_loss(*batch, avg_factor=factor), expected)


@every_engine
def test_no_gradient_is_made_where_none_is_wanted(batch):
    with torch.no_grad():
        loss = L.focal_loss(*batch)
    assert not loss.requires_grad
    assert not L.focal_loss(batch.logits.detach(), *batch[1:]).requires_grad


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@every_engine
def test_autocast_changes_nothing(dtype):
    batch = make_batch(dtype=torch.float32)
    expected = L.focal_loss(*batch)
    with torch.autocast("cpu", dtype=dtype):
        loss = L.focal_loss(*batch)
    assert torch.equal(loss, expected)
    gradients = (torch.autograd.grad(value, batch.logits)[0] for value in (loss, expected))
    assert torch.equal(*gradients)


@pytest.mark.slow  # the compiler alone takes half a minute
def test_compiles_without_a_graph_break():
    batch = make_batch(dtype=torch.float32)
    module = modules.FocalLoss()
    compiled = torch.compile(module, fullgraph=True)
    for options in ({"avg_factor": 3.0}, {"reduction_override": "none"}):
        loss, expected = compiled(*batch, **options), module(*batch, **options)
        torch.testing.assert_close(loss, expected)
        torch.testing.assert_close(
            *(torch.autograd.grad(value.sum(), batch.logits) for value in (loss, expected))
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target": torch.zeros(3)}, r"integer labels in \[0, 2\].*float32"),
        ({"target": torch.zeros(3, dtype=torch.bool)}, "integer labels"),
        ({"target": torch.zeros(3, 2, dtype=torch.long)}, r"shape \[3\].*\[3, 2\]"),
        ({"target": torch.zeros(4, dtype=torch.long)}, r"shape \[3\].*\[4\]"),
        ({"target": torch.tensor([0, -1, 2])}, "label -1"),
        ({"target": torch.tensor([0, 3, 2])}, "label 3"),
        ({"logits": torch.zeros(3)}, r"shape \[N, C\]"),
        ({"logits": torch.zeros(3, 2, dtype=torch.long)}, "floating point"),
        ({"weight": torch.ones(2)}, r"weight must.*\[3, 2\].*\[2\]"),
        ({"weight": torch.ones(3, requires_grad=True)}, "weight requires grad"),
        ({"reduction": "avg"}, "reduction='avg'"),
        ({"reduction": "sum", "avg_factor": 2.0}, "avg_factor"),
        ({"gamma": -1}, "gamma=-1"),
        ({"gamma": float("inf")}, "gamma=inf"),
        ({"gamma": "2"}, "gamma='2'"),
        ({"alpha": 1.1}, "alpha=1.1"),
    ],
)
def test_bad_input_is_named(change, message):
    valid = {"logits": torch.zeros(3, 2), "target": torch.tensor([0, 1, 2])}
    with pytest.raises(ValueError, match=message) as caught:
        L.focal_loss(**{**valid, **change})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("label", [-1, 8])
def test_a_bad_label_the_host_does_not_read_makes_the_loss_nan(batch, monkeypatch, label):
    monkeypatch.setattr(fused, "is_dense", lambda _: True)
    target = batch.target.clone()
    target[0] = label
    assert L.focal_loss(batch.logits, target).isnan()


@pytest.mark.parametrize(
    ("formula", "options"),
    [
        (formulas.FocalStar, {"gamma": 0}),
        (formulas.FocalStar, {"beta": float("nan")}),
        (formulas.Hinge, {"margin": 0}),
        (formulas.Poly1Focal, {"epsilon": float("inf")}),
        (formulas.Asymmetric, {"gamma_neg": -1}),
        (formulas.Asymmetric, {"margin": 2}),
    ],
)
def test_bad_parameters_are_named(formula, options):
    ((name, value),) = options.items()
    with pytest.raises(ValueError, match=f"{name}={value!r}"):
        formula(**options)


@pytest.fixture
def own_loss():
    """The loss of `modules`' docstring, with q = 0.5."""
    documentation = ast.get_docstring(ast.parse(Path(modules.__file__).read_text()))
    example = documentation[
        documentation.index("    @dataclass") : documentation.index("in any mod")
    ]
    scope = {**vars(formulas), **vars(modules), "torch": torch, "F": torch.nn.functional}
    exec(textwrap.dedent(example), scope)
    yield modules.LOSSES.build({"type": "ablations.GeneralizedCrossEntropyLoss", "q": 0.5})
    modules.LOSSES._module_dict.pop("GeneralizedCrossEntropyLoss")


def test_the_documented_loss_of_ones_own_works(batch, own_loss):
    value = own_loss(*batch, reduction_override="none")
    y = torch.nn.functional.one_hot(batch.target, 8)[:, :-1]
    p_t = torch.sigmoid(batch.logits * (2 * y - 1))
    expected = (1 - p_t.sqrt()) / 0.5 * batch.weight[:, None]
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(
        *(torch.autograd.grad(each.sum(), batch.logits)[0] for each in (value, expected))
    )


def test_the_documented_loss_of_ones_own_is_finite_at_any_logit(own_loss):
    logits = torch.tensor([[-1000.0], [-100.0], [0.0], [100.0], [1000.0]], requires_grad=True)
    for label in (0, 1):
        loss = own_loss(logits, torch.full((5,), label), reduction_override="none")
        (gradient,) = torch.autograd.grad(loss.sum(), logits)
        # (1 - p_t^q) / q is 0 for a sure and right answer, 1 / q = 2 for a sure and wrong one.
        ends = [2.0, 2.0, 0.0, 0.0] if label == 0 else [0.0, 0.0, 2.0, 2.0]
        assert loss[[0, 1, 3, 4], 0].tolist() == pytest.approx(ends)
        assert gradient.isfinite().all()
        # -p_t^q (1 - p_t) = -0.5^1.5 at p_t = 0.5.
        slope = -(0.5**1.5) if label == 0 else 0.5**1.5
        assert gradient[2].item() == pytest.approx(slope)
