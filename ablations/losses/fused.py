"""The loss of a batch of anchors: loss and gradient in one pass, by the fastest way available.

The forward pass also computes the scaled gradient, in the only large buffer; the backward pass
returns that buffer. Four implementations give the same numbers:

- `native`: focal loss in float32 on the CPU, compiled for the machine;
- `chunked`: everything else on the CPU;
- `triton_kernel`: focal loss on CUDA;
- `dense`: everything else.
"""

from __future__ import annotations

import importlib.util
from functools import cache
from typing import Any

import torch
from torch import Tensor

from ablations.losses import chunked, dense, native
from ablations.losses.pairs import PairLoss, Pairs

REDUCTIONS = ("none", "mean", "sum")


def pairwise_loss(
    pair: PairLoss,
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    reduction: str = "mean",
    avg_factor: float | Tensor | None = None,
    loss_weight: float = 1.0,
) -> Tensor:
    """Evaluate ``pair`` on every anchor-class pair and reduce.

    Args:
        pair: the loss of one pair.
        logits: [N, C], floating point. Half precision is computed and reduced in float32.
        target: [N], integer; a class in [0, C), or C for background.
        weight: [N], [N, 1], [N, C] or [N * C]; 0 leaves the anchor (or pair) out; its logits
            may be NaN. It is a constant: a weight that requires grad is refused.
        reduction: 'none' returns [N, C] (float32 for half-precision logits), 'sum' the sum over all
            pairs, 'mean' the sum divided by ``avg_factor`` (mmdet's way: the number of positive
            anchors), or by N * C without one.
        avg_factor: with 'mean' only; ignored for 'none'. As in mmdet, float32's epsilon is added.
        loss_weight: multiplies the result.

    Raises:
        ValueError: on shapes that do not fit, a floating point target, a label outside [0, C], an
            unknown reduction, or ``avg_factor`` with 'sum'. On an accelerator (and while compiling)
            labels are not read, because that would stall it; a bad label makes the loss NaN there.

    A NaN logit of an anchor that is not ignored makes the loss NaN.
    """
    check_inputs(logits, target, weight, reduction, avg_factor)
    scale = loss_weight
    divisor: Tensor | None = None
    if reduction == "mean":
        if avg_factor is None:
            scale /= max(logits.numel(), 1)
        elif isinstance(avg_factor, Tensor) and (is_dense(logits) or avg_factor.requires_grad):
            divisor = avg_factor + torch.finfo(torch.float32).eps
        else:
            scale /= float(avg_factor) + torch.finfo(torch.float32).eps
    if weight is not None:
        weight = weight.reshape(len(logits), 1 if weight.numel() == len(logits) else -1)
        weight = weight.to(torch.promote_types(logits.dtype, torch.float32))
    needs_gradient = torch.is_grad_enabled() and logits.requires_grad
    loss: Tensor
    if reduction == "none":
        loss = _Elementwise.apply(logits, target, weight, pair, scale)
    elif torch.compiler.is_compiling():
        # The compiler fuses the sum but adds values one by one, which loses a digit in float32.
        loss = _Elementwise.apply(logits, target, weight, pair, scale)
        loss = loss.sum(dtype=torch.float64).to(loss.dtype)
    else:
        loss = _Sum.apply(logits, target, weight, pair, scale, needs_gradient)
    return loss if divisor is None else loss / divisor


def as_rows(
    logits: Tensor, target: Tensor, weight: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Pairs of any shape, with 1 or 0 for each in ``target``, as rows of one class.

    Returns:
        logits [N, 1], labels [N] (0 positive, 1 background) and weights [N].

    Raises:
        ValueError: a target is neither 0 nor 1. On an accelerator targets are not read; such a
            pair's loss is NaN there.
    """
    flat = target.reshape(-1)
    labels = torch.where(flat == 1, 0, torch.where(flat == 0, 1, 2))
    if not is_dense(logits) and bool((labels == 2).any()):
        raise ValueError(
            f"target holds {float(flat[labels == 2][0]):g}; a target of the logits' shape must be "
            "0 or 1 everywhere (no label smoothing, no soft labels)"
        )
    if weight is not None:
        weight = weight.expand(target.shape).reshape(-1)
    return logits.reshape(-1, 1), labels, weight


def check_inputs(
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None,
    reduction: str,
    avg_factor: float | Tensor | None,
) -> None:
    """Raise a ValueError that names the bad value, for input that `pairwise_loss` refuses."""
    if logits.dim() != 2 or logits.shape[1] == 0 or not logits.is_floating_point():
        raise ValueError(
            f"logits must be floating point of shape [N, C], C >= 1; got {describe(logits)}"
        )
    count, classes = logits.shape
    if target.is_floating_point() or target.is_complex() or target.dtype == torch.bool:
        raise ValueError(
            f"target must hold integer labels in [0, {classes}] ({classes} is background); "
            f"got {describe(target)}"
        )
    if target.shape != (count,):
        raise ValueError(
            f"target must have shape [{count}], one label a row; got {describe(target)}"
        )
    if weight is not None:
        shapes = ((count,), (count, 1), (count, classes), (count * classes,))
        if tuple(weight.shape) not in shapes:
            raise ValueError(
                f"weight must have one of the shapes {', '.join(str(list(s)) for s in shapes)}; "
                f"got {describe(weight)}"
            )
        if weight.requires_grad:
            raise ValueError("weight requires grad, but the loss is differentiable in logits only")
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction={reduction!r} is not valid: choose one of {REDUCTIONS}")
    if reduction == "sum" and avg_factor is not None:
        raise ValueError("avg_factor divides a mean: it cannot be used with reduction='sum'")
    if count and not is_dense(logits):
        low, high = (int(bound) for bound in target.aminmax())
        if low < 0 or high > classes:
            raise ValueError(
                f"target holds label {low if low < 0 else high}; valid labels are 0 to "
                f"{classes - 1}, and {classes} for background"
            )


def describe(tensor: Tensor) -> str:
    return f"{tensor.dtype} of shape {list(tensor.shape)}"


def is_dense(logits: Tensor) -> bool:
    """Whether values must not be read on the host."""
    return logits.device.type != "cpu" or torch.compiler.is_compiling()


def fits_triton(pairs: Pairs) -> bool:
    """Whether the CUDA kernel can evaluate these pairs, and triton is installed to compile it."""
    single = pairs.logits.is_cuda and pairs.dtype == torch.float32
    return single and pairs.compiled_gamma is not None and has_triton()


@cache
def has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None


class _Sum(torch.autograd.Function):
    """scale * sum of all weighted pairs. The forward pass computes the gradient too."""

    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        target: Tensor,
        weight: Tensor | None,
        pair: PairLoss,
        scale: float,
        needs_gradient: bool,
    ) -> Tensor:
        ctx.save_for_backward(logits, target, weight)
        ctx.pair, ctx.scale = pair, scale
        # A float16 gradient could underflow before the loss scaler multiplies it: wait for
        # backward.
        now = needs_gradient and logits.dtype != torch.float16
        gradient = torch.empty_like(logits, memory_format=torch.contiguous_format) if now else None
        ctx.gradient = gradient
        return total(Pairs(pair, logits, target, weight, scale), gradient)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        logits, target, weight = ctx.saved_tensors
        gradient, ctx.gradient = ctx.gradient, None
        pairs = Pairs(ctx.pair, logits, target, weight, ctx.scale)
        # Computed here for float16, for a second pass over a retained graph, or to differentiate
        # it.
        if gradient is None or torch.is_grad_enabled():
            gradient = gradient_of(pairs, upstream)
        elif fits_triton(pairs):
            from ablations.losses import triton_kernel

            triton_kernel.rescale(gradient, upstream)
        elif is_dense(logits) or upstream != 1:
            gradient.mul_(upstream)
        return gradient, None, None, None, None, None


class _Elementwise(torch.autograd.Function):
    """scale * the weighted loss of every pair, [N, C]."""

    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        target: Tensor,
        weight: Tensor | None,
        pair: PairLoss,
        scale: float,
    ) -> Tensor:
        ctx.save_for_backward(logits, target, weight)
        ctx.pair, ctx.scale = pair, scale
        pairs = Pairs(pair, logits, target, weight, scale)
        if is_dense(logits):
            return dense.loss_and_gradient(pairs)[0]
        loss = torch.empty(logits.shape, dtype=pairs.dtype)
        sum_on_cpu(pairs, loss=loss)
        return loss

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        logits, target, weight = ctx.saved_tensors
        pairs = Pairs(ctx.pair, logits, target, weight, ctx.scale)
        return gradient_of(pairs, upstream), None, None, None, None


def total(pairs: Pairs, gradient: Tensor | None) -> Tensor:
    """The sum of the loss, without dimension; fills ``gradient``, [N, C] in the logits' type."""
    if not is_dense(pairs.logits):
        return torch.tensor(sum_on_cpu(pairs, gradient=gradient), dtype=pairs.dtype)
    if fits_triton(pairs):
        from ablations.losses import triton_kernel

        return triton_kernel.sum_loss(pairs, gradient)
    loss, slope = dense.loss_and_gradient(pairs)
    if gradient is not None:
        gradient.copy_(slope)
    return loss.sum()


def gradient_of(pairs: Pairs, upstream: Tensor) -> Tensor:
    """Gradient of sum(upstream * loss) in the logits' type, computed in ``pairs.dtype``."""
    logits = pairs.logits
    if torch.is_grad_enabled():  # create_graph=True: differentiate the closed form
        return (dense.loss_and_gradient(pairs)[1] * upstream).to(logits.dtype)
    if upstream.dim() == 0 and fits_triton(pairs):
        from ablations.losses import triton_kernel

        gradient = torch.empty_like(logits)
        triton_kernel.sum_loss(pairs, gradient, upstream)
        return gradient
    if is_dense(logits):
        gradient = dense.loss_and_gradient(pairs)[1]
    else:
        gradient = torch.empty(logits.shape, dtype=pairs.dtype)
        sum_on_cpu(pairs, gradient=gradient)
    return gradient.mul_(upstream).to(logits.dtype)


def sum_on_cpu(pairs: Pairs, loss: Tensor | None = None, gradient: Tensor | None = None) -> float:
    """The sum of the loss; fills ``loss`` and ``gradient``, [N, C], where given."""
    fastest = native if native.fits(pairs) else chunked
    return fastest.sum_loss(pairs, loss, gradient)
