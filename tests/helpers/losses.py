"""Every formula as a function of a batch, for tests that run over the losses."""

from torch import Tensor

from ablations.losses.formulas import Asymmetric, Focal, FocalStar, Hinge, Poly1Focal
from ablations.losses.functional import PairLoss, balanced, focal_loss, pairwise_loss

__all__ = ["focal_loss"]


def cross_entropy(*batch: Tensor, **options) -> Tensor:
    return pairwise_loss(PairLoss(Focal(gamma=0.0)), *batch, **options)


def balanced_cross_entropy(*batch: Tensor, alpha: float, **options) -> Tensor:
    return pairwise_loss(balanced(Focal(gamma=0.0), alpha), *batch, **options)


def focal_star_loss(*batch: Tensor, gamma: float = 2.0, beta: float = 1.0, **options) -> Tensor:
    return pairwise_loss(PairLoss(FocalStar(gamma, beta)), *batch, **options)


def hinge_loss(*batch: Tensor, margin: float = 0.5, **options) -> Tensor:
    return pairwise_loss(PairLoss(Hinge(margin)), *batch, **options)


def poly1_focal_loss(
    *batch: Tensor, gamma: float = 2.0, alpha: float = 0.25, epsilon: float = 1.0, **options
) -> Tensor:
    return pairwise_loss(balanced(Poly1Focal(gamma, epsilon), alpha), *batch, **options)


def asymmetric_loss(
    *batch: Tensor, gamma_pos: float = 0.0, gamma_neg: float = 4.0, margin: float = 0.05, **options
) -> Tensor:
    return pairwise_loss(PairLoss(Asymmetric(gamma_pos, gamma_neg, margin)), *batch, **options)
