"""The losses as modules for OpenMMLab configs, with mmdet's calling convention.

    loss_cls=dict(type='ablations.FocalLoss', gamma=2.0, alpha=0.25, use_sigmoid=True)

Write ``use_sigmoid=True`` in the config although it is the default here: AnchorHead reads it from
the config, and without it makes an output for a softmax, with a logit for background. A bad
parameter is refused when the module is built. Shapes: `ablations.losses.functional`. Each
class takes the parameters of its formula and, as ``options``, those of `PairwiseLoss`.

A loss of your own needs a name and a formula in x_t, the logit of the true side. Its gradient comes
from automatic differentiation, so it must be finite at every logit: here 1 - p_t^q is written with
``expm1`` and ``logsigmoid``: the gradient of ``torch.sigmoid(x_t) ** q`` is NaN at x_t = -100.

    @dataclass(frozen=True)
    class GeneralizedCrossEntropy(Formula):  # arXiv:1805.07836
        q: float = 0.7

        def value(self, x_t):
            return -torch.expm1(self.q * F.logsigmoid(x_t)) / self.q

    @LOSSES.register_module()
    class GeneralizedCrossEntropyLoss(PairwiseLoss):
        def __init__(self, q=0.7, **options):
            super().__init__(PairLoss(GeneralizedCrossEntropy(q)), **options)

in any module that the config lists under ``custom_imports``.
"""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor, nn

from ablations.losses.formulas import (
    Asymmetric,
    Focal,
    FocalStar,
    Formula,
    Hinge,
    Poly1Focal,
    check_number,
)
from ablations.losses.fused import REDUCTIONS, as_rows, pairwise_loss
from ablations.losses.pairs import PairLoss, balanced
from ablations.losses.registry import LOSSES

__all__ = [
    "LOSSES",
    "AsymmetricLoss",
    "BalancedCrossEntropyLoss",
    "CrossEntropyLoss",
    "FocalLoss",
    "FocalStarLoss",
    "Formula",
    "HingeLoss",
    "PairLoss",
    "PairwiseLoss",
    "Poly1FocalLoss",
    "balanced",
]


class PairwiseLoss(nn.Module):
    """A loss that is a sum over anchor-class pairs.

    Args:
        pair: the loss of one pair.
        loss_weight: multiplies the loss.
        reduction: 'none', 'mean' or 'sum'; what used by a call without ``reduction_override``.
        use_sigmoid: True is the only form. Write it in the config all the same, see above.
    """

    def __init__(
        self,
        pair: PairLoss,
        loss_weight: float = 1.0,
        reduction: str = "mean",
        use_sigmoid: bool = True,
    ) -> None:
        super().__init__()
        if not use_sigmoid:
            raise ValueError(
                f"use_sigmoid={use_sigmoid!r} is not valid: every class has its sigmoid"
            )
        if reduction not in REDUCTIONS:
            raise ValueError(f"reduction={reduction!r} is not valid: choose one of {REDUCTIONS}")
        check_number("loss_weight", loss_weight, low=-math.inf)
        self.pair = pair
        self.loss_weight = loss_weight
        self.reduction = reduction
        self.use_sigmoid = use_sigmoid

    def forward(
        self,
        pred: Tensor,
        target: Tensor,
        weight: Tensor | None = None,
        avg_factor: float | Tensor | None = None,
        reduction_override: str | None = None,
    ) -> Tensor:
        """The loss of ``pred`` [N, C] against labels ``target`` [N]; [N, C] for 'none'.

        A head may also give ``target`` in the shape of ``pred``, whatever that is, with 1 for a
        positive pair and 0 for a negative one, as YOLOv3's does.

        Args:
            weight: [N] or [N, C]; 0 leaves the anchor or pair out. With such a target: of a shape
                that broadcasts to it.
            avg_factor: what 'mean' divides by; the number of positive anchors in RetinaHead.
            reduction_override: replaces the module's reduction in this call.
        """
        reduction = self.reduction if reduction_override is None else reduction_override
        in_pairs = target.is_floating_point() and target.shape == pred.shape and target.dim() > 0
        shape = pred.shape
        if in_pairs:
            pred, target, weight = as_rows(pred, target, weight)
        loss = pairwise_loss(
            self.pair,
            pred,
            target,
            weight,
            reduction=reduction,
            avg_factor=avg_factor,
            loss_weight=self.loss_weight,
        )
        return loss.reshape(shape) if in_pairs and reduction == "none" else loss

    def extra_repr(self) -> str:
        return f"{self.pair}, loss_weight={self.loss_weight}, reduction={self.reduction!r}"


@LOSSES.register_module()
class FocalLoss(PairwiseLoss):
    """Focal loss, eq. 5 of arXiv:1708.02002; ``alpha=None`` leaves alpha_t out (eq. 4)."""

    def __init__(self, gamma: float = 2.0, alpha: float | None = 0.25, **options: Any) -> None:
        super().__init__(balanced(Focal(gamma), alpha), **options)


@LOSSES.register_module()
class CrossEntropyLoss(PairwiseLoss):
    """Plain cross entropy without alpha: -log(p_t), eq. 1."""

    def __init__(self, **options: Any) -> None:
        super().__init__(PairLoss(Focal(gamma=0.0)), **options)


@LOSSES.register_module()
class BalancedCrossEntropyLoss(PairwiseLoss):
    """alpha-balanced cross entropy, eq. 3. alpha = 0.5 is half of plain cross entropy."""

    def __init__(self, alpha: float, **options: Any) -> None:
        super().__init__(balanced(Focal(gamma=0.0), alpha), **options)


@LOSSES.register_module()
class FocalStarLoss(PairwiseLoss):
    """FL*, the alternate form of appendix A (Table 3): `formulas.FocalStar`."""

    def __init__(self, gamma: float = 2.0, beta: float = 1.0, **options: Any) -> None:
        super().__init__(PairLoss(FocalStar(gamma, beta)), **options)


@LOSSES.register_module()
class HingeLoss(PairwiseLoss):
    """Hinge loss on p_t, in this project's own form: `formulas.Hinge`."""

    def __init__(self, margin: float = 0.5, **options: Any) -> None:
        super().__init__(PairLoss(Hinge(margin)), **options)


@LOSSES.register_module()
class Poly1FocalLoss(PairwiseLoss):
    """Poly-1 focal loss, arXiv:2204.12511: `formulas.Poly1Focal`, times alpha_t."""

    def __init__(
        self,
        gamma: float = 2.0,
        alpha: float | None = 0.25,
        epsilon: float = 1.0,
        **options: Any,
    ) -> None:
        super().__init__(balanced(Poly1Focal(gamma, epsilon), alpha), **options)


@LOSSES.register_module()
class AsymmetricLoss(PairwiseLoss):
    """ASL, arXiv:2009.14119: `formulas.Asymmetric`."""

    def __init__(
        self,
        gamma_pos: float = 0.0,
        gamma_neg: float = 4.0,
        margin: float = 0.05,
        **options: Any,
    ) -> None:
        super().__init__(PairLoss(Asymmetric(gamma_pos, gamma_neg, margin)), **options)
