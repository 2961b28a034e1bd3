"""Evaluate any formula in whole-tensor operations, without reading a value on the host.

This is for accelerators, which such a read would stall, for torch.compile, and for second
derivatives.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ablations.losses.pairs import Pairs


def loss_and_gradient(pairs: Pairs) -> tuple[Tensor, Tensor]:
    """Loss and gradient of every pair, [N, C]; NaN in rows whose label is out of range."""
    logits, target = pairs.logits, pairs.target
    classes = logits.shape[1]
    positive_factor, negative_factor = pairs.factors
    x = logits.to(pairs.dtype)
    label = target.long().clamp(0, classes - 1).unsqueeze(1)
    positive = ((target >= 0) & (target < classes)).unsqueeze(1)
    value, slope = pairs.loss.formula.negative(x)
    assert slope is not None  # it was asked for
    value, slope = value * negative_factor, slope * negative_factor
    value_there, slope_there = pairs.loss.formula.positive(x.gather(1, label))
    value_there, slope_there = (
        torch.where(positive, there * positive_factor, everywhere.gather(1, label))
        for there, everywhere in ((value_there, value), (slope_there, slope))
    )
    value, slope = value.scatter(1, label, value_there), slope.scatter(1, label, slope_there)
    valid = ((target >= 0) & (target <= classes)).unsqueeze(1)
    factor = torch.where(valid, 1.0, torch.nan)
    if pairs.weight is not None:
        factor = factor * pairs.weight
        kept = factor != 0  # NaN counts as kept
        return (value * factor).where(kept, 0), (slope * factor).where(kept, 0)
    return value * factor, slope * factor
