"""The losses as pure functions of logits and integer labels, with closed-form gradients.

Shapes and conventions are one for all: ``logits`` [N, C] (a row an anchor), ``target`` [N] with a
class in [0, C) or C for background, ``weight`` [N] or [N, C] with 0 for what is ignored. alpha
weighs positives, 1 - alpha negatives. Reductions and errors:
`ablations.losses.fused.pairwise_loss`.

Importing this module needs torch and nothing else.
"""

from __future__ import annotations

from torch import Tensor

from ablations.losses.curves import (
    Asymmetric,
    Curve,
    Focal,
    FocalStar,
    Hinge,
    Poly1Focal,
    check_number,
)
from ablations.losses.fused import pairwise_loss
from ablations.losses.pairs import PairLoss

__all__ = [
    "asymmetric_loss",
    "balanced",
    "balanced_cross_entropy",
    "cross_entropy",
    "focal_loss",
    "focal_star_loss",
    "hinge_loss",
    "poly1_focal_loss",
]


def balanced(curve: Curve, alpha: float | None) -> PairLoss:
    """alpha_t times ``curve``: alpha for positives, 1 - alpha for negatives; no factor for None."""
    if alpha is None:
        return PairLoss(curve)
    check_number("alpha", alpha, low=0.0, high=1.0)
    return PairLoss(curve, positive_factor=alpha, negative_factor=1.0 - alpha)


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
    """-alpha_t (1 - p_t)^gamma log(p_t), eq. 5 of arXiv:1708.02002; eq. 4 for ``alpha=None``."""
    pair = balanced(Focal(gamma), alpha)
    return pairwise_loss(pair, logits, target, weight, reduction=reduction, avg_factor=avg_factor)


def cross_entropy(
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    reduction: str = "mean",
    avg_factor: float | Tensor | None = None,
) -> Tensor:
    """-log(p_t), eq. 1 of arXiv:1708.02002: binary cross entropy of every anchor-class pair."""
    pair = PairLoss(Focal(gamma=0.0))
    return pairwise_loss(pair, logits, target, weight, reduction=reduction, avg_factor=avg_factor)


def balanced_cross_entropy(
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    alpha: float,
    reduction: str = "mean",
    avg_factor: float | Tensor | None = None,
) -> Tensor:
    """-alpha_t log(p_t), eq. 3 of arXiv:1708.02002. alpha = 0.5 is half of `cross_entropy`."""
    pair = balanced(Focal(gamma=0.0), alpha)
    return pairwise_loss(pair, logits, target, weight, reduction=reduction, avg_factor=avg_factor)


def focal_star_loss(
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    gamma: float = 2.0,
    beta: float = 1.0,
    reduction: str = "mean",
    avg_factor: float | Tensor | None = None,
) -> Tensor:
    """FL* = -log(sigmoid(gamma x_t + beta)) / gamma, appendix A of arXiv:1708.02002 (Table 3)."""
    pair = PairLoss(FocalStar(gamma, beta))
    return pairwise_loss(pair, logits, target, weight, reduction=reduction, avg_factor=avg_factor)


def hinge_loss(
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    margin: float = 0.5,
    reduction: str = "mean",
    avg_factor: float | Tensor | None = None,
) -> Tensor:
    """max(0, margin - p_t): the form is ours, see `ablations.losses.curves.Hinge`."""
    pair = PairLoss(Hinge(margin))
    return pairwise_loss(pair, logits, target, weight, reduction=reduction, avg_factor=avg_factor)


def poly1_focal_loss(
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    gamma: float = 2.0,
    alpha: float | None = 0.25,
    epsilon: float = 1.0,
    reduction: str = "mean",
    avg_factor: float | Tensor | None = None,
) -> Tensor:
    """alpha_t (FL + epsilon (1 - p_t)^(gamma + 1)), Poly-1 of PolyLoss, arXiv:2204.12511."""
    pair = balanced(Poly1Focal(gamma, epsilon), alpha)
    return pairwise_loss(pair, logits, target, weight, reduction=reduction, avg_factor=avg_factor)


def asymmetric_loss(
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    gamma_pos: float = 0.0,
    gamma_neg: float = 4.0,
    margin: float = 0.05,
    reduction: str = "mean",
    avg_factor: float | Tensor | None = None,
) -> Tensor:
    """ASL, eq. 7 of arXiv:2009.14119: its own gamma a side, easy negatives (p < margin) dropped."""
    pair = PairLoss(Asymmetric(gamma_pos, gamma_neg, margin))
    return pairwise_loss(pair, logits, target, weight, reduction=reduction, avg_factor=avg_factor)
