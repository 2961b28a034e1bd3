"""Losses as pure functions of logits and integer labels.

``logits`` are [N, C] (a row an anchor), ``target`` [N] holds a class in [0, C), or C for
background, ``weight`` [N] or [N, C] is 0 for what is ignored. `focal_loss` is the paper's. Any
other formula is evaluated by `pairwise_loss`:

    pairwise_loss(PairLoss(Hinge(0.5)), logits, target, weight)
    pairwise_loss(balanced(Hinge(0.5), alpha=0.25), logits, target, weight)

Gradients are closed forms. This module needs only torch.
"""

from __future__ import annotations

from torch import Tensor

from ablations.losses.formulas import Focal
from ablations.losses.fused import pairwise_loss
from ablations.losses.pairs import PairLoss, balanced

__all__ = ["PairLoss", "balanced", "focal_loss", "pairwise_loss"]


def focal_loss(
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    gamma: float = 2.0,
    alpha: float | None = 0.25,
    reduction: str = "mean",
    avg_factor: float | Tensor | None = None,
) -> Tensor:
    """-alpha_t (1 - p_t)^gamma log(p_t), eq. 5 of arXiv:1708.02002; eq. 4 for ``alpha=None``.

    alpha weighs positives, 1 - alpha negatives. gamma = 0 without alpha is cross entropy, eq. 1.
    Reductions and errors: `pairwise_loss`.
    """
    pair = balanced(Focal(gamma), alpha)
    return pairwise_loss(pair, logits, target, weight, reduction=reduction, avg_factor=avg_factor)
