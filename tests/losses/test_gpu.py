"""The kernel on a real device; `make bench-losses` times it there."""

import pytest
import torch

from tests.helpers import losses as L
from tests.helpers.batches import make_batch

pytestmark = pytest.mark.gpu

LOSSES = [
    (L.focal_loss, {"gamma": 0.5}),
    (L.focal_loss, {"gamma": 2.0}),
    (L.focal_loss, {"gamma": 2.7}),
    (L.cross_entropy, {}),
    (L.focal_star_loss, {}),
    (L.hinge_loss, {}),
    (L.poly1_focal_loss, {}),
    (L.asymmetric_loss, {}),
]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("loss", "options"), LOSSES)
@pytest.mark.parametrize("reduction", ["sum", "none"])
def test_the_device_agrees_with_the_cpu(dtype, loss, options, reduction):
    here = make_batch(count=5000, classes=80, dtype=dtype)
    there = type(here)(*(tensor.detach().cuda() for tensor in here))
    there.logits.requires_grad_()
    tolerance = 1e-12 if dtype == torch.float64 else max(1e-6, 2 * torch.finfo(dtype).eps)
    results = []
    for batch in (here, there):
        value = 3 * loss(*batch, **options, reduction=reduction)
        (gradient,) = torch.autograd.grad(value.sum(), batch.logits)
        results.append((value.detach().cpu().double(), gradient.cpu().double()))
    for expected, actual in zip(*results, strict=True):
        assert (actual - expected).norm() <= tolerance * expected.norm()


def test_it_repeats_to_the_bit():
    batch = type(make_batch())(*(t.detach().cuda() for t in make_batch(dtype=torch.float32)))
    batch.logits.requires_grad_()
    first, second = (L.focal_loss(*batch) for _ in range(2))
    assert torch.equal(first, second)
