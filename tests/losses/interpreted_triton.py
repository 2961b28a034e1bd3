"""The CUDA kernel, value by value, in Triton's interpreter on the CPU.

Run by `test_triton.py` in a process of its own, since triton must be imported as an interpreter.
"""

from contextlib import contextmanager

import pytest
import torch

from ablations.losses import dense, fused, triton_kernel
from tests.helpers import losses as L
from tests.helpers.batches import Batch, make_batch


@pytest.fixture
def route():
    """A context in which losses take the route of CUDA tensors."""

    @contextmanager
    def to_the_kernel():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(fused, "is_dense", lambda _: True)
            patch.setattr(fused, "fits_triton", lambda *_: True)
            patch.setattr(
                dense, "loss_and_gradient", None
            )  # nothing may be computed beside the kernel
            patch.setattr(triton_kernel, "BLOCK", 64)
            yield

    return to_the_kernel


def value_and_gradient(batch, factor=1.0, **options):
    loss = factor * L.focal_loss(*batch, **options)
    return loss.detach(), torch.autograd.grad(loss, batch.logits)[0]


@pytest.mark.parametrize("gamma", [0, 0.5, 1, 2, 3.3])
@pytest.mark.parametrize(
    ("dtype", "factor"),
    [(torch.float32, 1.0), (torch.float32, 3.0), (torch.float16, 1024.0), (torch.bfloat16, 4.0)],
)
def test_agrees_with_the_cpu(route, gamma, dtype, factor):
    full = make_batch(count=20, dtype=dtype)  # three blocks, the last one not full
    for batch in (full, full._replace(weight=None), make_batch(count=0, dtype=dtype)):
        options = {"gamma": gamma, "avg_factor": 9.0, "factor": factor}
        expected = value_and_gradient(batch, **options)
        with route():
            value, gradient = value_and_gradient(batch, **options)
        assert value.dtype == torch.float32 and gradient.dtype == dtype
        torch.testing.assert_close((value, gradient), expected)


def test_float32_is_right_to_1e_6_in_norm(route):
    batch = make_batch(count=200, dtype=torch.float32)
    exact = batch._replace(logits=batch.logits.detach().double().requires_grad_())
    expected = value_and_gradient(exact)
    with route():
        results = value_and_gradient(batch)
    for single, double in zip(results, expected, strict=True):
        assert (single.double() - double).norm() <= 1e-6 * double.norm()


def test_finite_at_any_logit(route):
    logits = torch.tensor([[-1e4], [-104.0], [-88.0], [0.0], [88.0], [104.0], [1e4]])
    for label in (0, 1):
        target = torch.full((7,), label)
        for gamma in (0, 0.1, 0.5, 2, 10):
            with route():
                batch = Batch(logits.clone().requires_grad_(), target, None)
                value, gradient = value_and_gradient(batch, gamma=gamma)
            assert value.isfinite() and gradient.isfinite().all()


def test_an_ignored_anchor_may_hold_anything_and_a_bad_label_is_nan(route):
    batch = make_batch(count=20, dtype=torch.float32)
    expected = value_and_gradient(batch)
    garbage = batch.logits.detach().clone()
    garbage[batch.weight == 0] = torch.nan
    with route():
        torch.testing.assert_close(
            value_and_gradient(batch._replace(logits=garbage.requires_grad_())), expected
        )
        for label in (-1, 8):
            target = batch.target.clone()
            target[0] = label
            assert L.focal_loss(batch.logits, target, batch.weight).isnan()


def test_a_retained_graph_gives_the_gradient_again(route):
    batch = make_batch(count=20, dtype=torch.float32)
    with route():
        loss = 3 * L.focal_loss(*batch)
        (first,) = torch.autograd.grad(loss, batch.logits, retain_graph=True)
        (second,) = torch.autograd.grad(loss, batch.logits)
    torch.testing.assert_close(second, first)
