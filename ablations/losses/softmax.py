"""Losses of softmax heads: cross entropy and focal loss of the classes and background together.

mmdet's two-stage heads and SSD end in a softmax over C classes and background: logits [N, C + 1],
labels in [0, C], the last of them background. A row's loss is that of its own label,

    -alpha_t (1 - p_t)^gamma log(p_t),    p_t = softmax(x)[label],

with alpha for the classes and 1 - alpha for background. gamma = 0 without alpha is cross entropy.
The gradient is the closed form, finite at every logit:

    (softmax(x) - e_label) alpha_t (1 - p_t)^gamma (1 - gamma p_t log(p_t) / (1 - p_t)).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ablations.losses.formulas import check_number
from ablations.losses.fused import REDUCTIONS, describe, is_dense
from ablations.losses.registry import LOSSES


def softmax_focal_loss(
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    gamma: float = 2.0,
    alpha: float | None = None,
    reduction: str = "mean",
    avg_factor: float | Tensor | None = None,
    loss_weight: float = 1.0,
) -> Tensor:
    """Focal loss of a softmax over the classes and background.

    Args:
        logits: [N, C + 1], floating point; the last column is background.
        target: [N], integer; in [0, C].
        weight: [N]; 0 leaves the row out, even one with a NaN logit.
        gamma: focusing parameter.
        alpha: weight of the classes, 1 - alpha of background; ``None``: both 1.
        reduction: 'none' returns [N], 'sum' the sum, 'mean' the sum divided by ``avg_factor``, or
            by N without one.
        avg_factor: with 'mean' only; float32's epsilon is added, as in mmdet.
        loss_weight: multiplies the result.

    Raises:
        ValueError: on shapes that do not fit, a label outside [0, C] (on an accelerator its loss is
            NaN instead), an unknown reduction, or ``avg_factor`` with 'sum'.
    """
    _check(logits, target, weight, reduction, avg_factor)
    background = logits.shape[1] - 1
    dtype = torch.promote_types(logits.dtype, torch.float32)
    factor = torch.full(target.shape, float(loss_weight), dtype=dtype, device=logits.device)
    if alpha is not None:
        factor = factor * torch.where(target == background, 1.0 - alpha, alpha)
    factor = factor.where((target >= 0) & (target <= background), torch.nan)
    if weight is not None:
        factor = (factor * weight).where(weight != 0, 0)
    loss: Tensor = _Rows.apply(logits, target.long().clamp(0, background), factor, gamma)
    if reduction == "none":
        return loss
    total = loss.sum()
    if reduction == "sum":
        return total
    if avg_factor is None:
        return total / max(len(target), 1)
    return total / (avg_factor + torch.finfo(torch.float32).eps)


class _Rows(torch.autograd.Function):
    """The loss of every row, [N]; the gradient is computed with it."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, label: Tensor, factor: Tensor, gamma: float) -> Tensor:
        log_p = torch.log_softmax(logits.to(factor.dtype), 1)
        log_p_t = log_p.gather(1, label[:, None]).squeeze(1)
        rest = -torch.expm1(log_p_t)  # 1 - p_t
        modulator = torch.ones_like(rest) if gamma == 0 else rest**gamma
        kept = factor != 0  # NaN counts as kept
        if ctx.needs_input_grad[0]:
            # log(p_t) / (1 - p_t) tends to -1 as p_t tends to 1
            ratio = torch.where(rest > 0, log_p_t / rest, -1.0)
            slope = factor * modulator * (1 - gamma * log_p_t.exp() * ratio)
            gradient = log_p.exp() * slope[:, None]
            gradient.scatter_add_(1, label[:, None], -slope[:, None])
            ctx.save_for_backward(gradient.where(kept[:, None], 0))
            ctx.dtype = logits.dtype
        return (factor * modulator * -log_p_t).where(kept, 0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return (gradient * outer[:, None]).to(ctx.dtype), None, None, None


def _check(
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None,
    reduction: str,
    avg_factor: float | Tensor | None,
) -> None:
    if logits.dim() != 2 or logits.shape[1] < 2 or not logits.is_floating_point():
        raise ValueError(
            f"logits must be floating point of shape [N, C + 1], C >= 1; got {describe(logits)}"
        )
    if target.is_floating_point() or target.dtype == torch.bool or target.shape != logits.shape[:1]:
        raise ValueError(
            f"target must hold {len(logits)} integer labels, one a row; got {describe(target)}"
        )
    if weight is not None and weight.shape != target.shape:
        raise ValueError(f"weight must have shape [{len(logits)}]; got {describe(weight)}")
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction={reduction!r} is not valid: choose one of {REDUCTIONS}")
    if reduction == "sum" and avg_factor is not None:
        raise ValueError("avg_factor divides a mean: it cannot be used with reduction='sum'")
    if len(target) and not is_dense(logits):
        low, high = (int(bound) for bound in target.aminmax())
        background = logits.shape[1] - 1
        if low < 0 or high > background:
            raise ValueError(f"target holds {low if low < 0 else high}, outside [0, {background}]")


class SoftmaxLoss(nn.Module):
    """A loss for a softmax head, such as ``roi_head.bbox_head``: `softmax_focal_loss`.

    Args:
        gamma: focusing parameter.
        alpha: weight of the classes, 1 - alpha of background; ``None``: both 1.
        loss_weight: multiplies the loss.
        reduction: 'none', 'mean' or 'sum'; what used by a call without ``reduction_override``.
        use_sigmoid: False is the only form.
    """

    def __init__(
        self,
        gamma: float,
        alpha: float | None,
        loss_weight: float = 1.0,
        reduction: str = "mean",
        use_sigmoid: bool = False,
    ) -> None:
        super().__init__()
        if use_sigmoid:
            raise ValueError(
                f"use_sigmoid={use_sigmoid!r} is not valid: {type(self).__name__} is for a softmax"
            )
        check_number("gamma", gamma, low=0.0)
        if alpha is not None:
            check_number("alpha", alpha, low=0.0, high=1.0)
        check_number("loss_weight", loss_weight, low=-math.inf)
        if reduction not in REDUCTIONS:
            raise ValueError(f"reduction={reduction!r} is not valid: choose one of {REDUCTIONS}")
        self.gamma = gamma
        self.alpha = alpha
        self.loss_weight = loss_weight
        self.reduction = reduction
        self.use_sigmoid = False

    def forward(
        self,
        pred: Tensor,
        target: Tensor,
        weight: Tensor | None = None,
        avg_factor: float | Tensor | None = None,
        reduction_override: str | None = None,
    ) -> Tensor:
        """The loss of ``pred`` [N, C + 1] against labels ``target`` [N]; [N] for 'none'."""
        reduction = self.reduction if reduction_override is None else reduction_override
        return softmax_focal_loss(
            pred,
            target,
            weight,
            gamma=self.gamma,
            alpha=self.alpha,
            reduction=reduction,
            avg_factor=avg_factor,
            loss_weight=self.loss_weight,
        )

    def extra_repr(self) -> str:
        return f"gamma={self.gamma}, alpha={self.alpha}, loss_weight={self.loss_weight}"


@LOSSES.register_module()
class SoftmaxFocalLoss(SoftmaxLoss):
    """Focal loss of a softmax; ``alpha=None`` leaves alpha_t out."""

    def __init__(self, gamma: float = 2.0, alpha: float | None = None, **options: Any) -> None:
        super().__init__(gamma, alpha, **options)


@LOSSES.register_module()
class SoftmaxCrossEntropyLoss(SoftmaxLoss):
    """Cross entropy of a softmax."""

    def __init__(self, **options: Any) -> None:
        super().__init__(gamma=0.0, alpha=None, **options)
