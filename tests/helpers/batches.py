"""Random input that looks like detection's."""

from typing import NamedTuple

import torch
from torch import Tensor


class Batch(NamedTuple):
    logits: Tensor  # [N, C]
    target: Tensor  # [N]
    weight: Tensor  # [N]


def make_batch(count=600, classes=7, dtype=torch.float64, std=3.0, seed=0) -> Batch:
    """A third are positive, a fifth ignored, and a few weights are neither 0 nor 1."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(count, classes, generator=generator, dtype=torch.float64) * std
    target = torch.randint(0, classes, (count,), generator=generator)
    target[torch.rand(count, generator=generator) < 2 / 3] = classes
    weight = (torch.rand(count, generator=generator) < 0.8).double()
    weight[::17] *= 1.5
    return Batch(logits.to(dtype).requires_grad_(), target, weight)
