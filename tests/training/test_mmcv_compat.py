"""mmcv's operators on features in channels-last order, as a channels-last detector makes them."""

import pytest
import torch
from mmcv.ops import DeformConv2dPack, ModulatedDeformConv2dPack, RoIAlign, RoIAlignRotated
from torch import Tensor, nn

import ablations.training  # noqa: F401 - the mend

BOXES = torch.tensor([[0, 8.0, 8, 40, 44], [1, 20, 30, 60, 70]])
ROTATED = torch.tensor([[0, 20.0, 20, 10, 14, 0.3], [1, 40, 40, 20, 10, 0.1]])


def _value_and_gradient(module: nn.Module, features: Tensor, *rest: Tensor) -> list[Tensor]:
    features = features.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    out = module(features, *rest)
    weights = torch.arange(out.numel(), dtype=out.dtype).reshape(out.shape)
    weighted = (out * weights).sum()
    found = torch.autograd.grad(weighted, [features, *module.parameters()])
    return [out.detach(), *found]


@pytest.mark.parametrize(
    ("build", "rest"),
    [
        (lambda: RoIAlign(4, 1 / 8, sampling_ratio=2), (BOXES,)),
        (lambda: RoIAlignRotated(4, 1 / 8, sampling_ratio=2), (ROTATED,)),
        (lambda: DeformConv2dPack(8, 8, 3, padding=1), ()),
        (lambda: ModulatedDeformConv2dPack(8, 8, 3, padding=1), ()),
    ],
)
def test_an_operator_does_not_depend_on_the_order_in_memory(build, rest) -> None:
    torch.manual_seed(0)
    module, features = build(), torch.randn(2, 8, 12, 12)
    expected = _value_and_gradient(module, features, *rest)
    module.to(memory_format=torch.channels_last)
    last = features.contiguous(memory_format=torch.channels_last)
    for found, wanted in zip(_value_and_gradient(module, last, *rest), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-3)
