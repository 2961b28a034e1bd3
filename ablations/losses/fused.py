"""Evaluate a curve on [N, C] logits and integer labels: loss and gradient in one pass.

Detection makes nearly every anchor-class pair a negative. So no one-hot target is built: each chunk
of logits, small enough to stay in the cache, is evaluated as if every pair were a negative; then
what is not one (ignored anchors, the positives' own classes) is set to zero, and the few positives
are written on top.

The forward pass already makes the gradient, scaled, in the only large buffer there is; the backward
pass hands that buffer out.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from ablations.losses import native
from ablations.losses.curves import Curve, Focal, Scratch

# Elements in a chunk, per thread: four float32 buffers of this size fit the second-level cache.
CHUNK = 32_768
REDUCTIONS = ("none", "mean", "sum")


@dataclass(frozen=True)
class PairLoss:
    """A curve and the factors alpha_t: the loss of one anchor-class pair, before any weight."""

    curve: Curve
    positive_factor: float = 1.0
    negative_factor: float = 1.0


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
        weight: [N], [N, 1], [N, C] or [N * C]; 0 leaves the anchor (or pair) out, whatever its
            logits. It is a constant: a weight that requires grad is refused.
        reduction: 'none' returns [N, C] (float32 for half-precision logits), 'sum' the sum over all
            pairs, 'mean' the sum divided by ``avg_factor`` (mmdet's way: the number of positive
            anchors), or by N * C without one.
        avg_factor: with 'mean' only; ignored for 'none'. As in mmdet, float32's epsilon is added.
        loss_weight: multiplies the result.

    Raises:
        ValueError: on shapes that do not fit, a floating point target, a label outside [0, C], an
            unknown reduction, or ``avg_factor`` with 'sum'. Reading labels on an accelerator (or
            while compiling) would stall it: there an anchor with a bad label makes the loss NaN.

    A NaN logit of an anchor that counts makes the loss NaN; it is not searched for.
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
        weight = weight.to(accumulation_type(logits))
    needs_gradient = torch.is_grad_enabled() and logits.requires_grad
    loss: Tensor
    if reduction == "none":
        loss = _Elementwise.apply(logits, target, weight, pair, scale)
    elif torch.compiler.is_compiling():  # the compiler fuses the sum by itself
        loss = _Elementwise.apply(logits, target, weight, pair, scale).sum()
    else:
        loss = _Sum.apply(logits, target, weight, pair, scale, needs_gradient)
    return loss if divisor is None else loss / divisor


def check_inputs(
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None,
    reduction: str,
    avg_factor: float | Tensor | None,
) -> None:
    """Raise a ValueError that names the bad value, for what `pairwise_loss` cannot take."""
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
    """Whether to evaluate in whole-tensor operations that never read a value on the host."""
    return logits.device.type != "cpu" or torch.compiler.is_compiling()


class _Sum(torch.autograd.Function):
    """scale * sum of all weighted pairs. The forward pass makes the gradient as well."""

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
        # A float16 gradient may underflow before a loss scaler multiplies it: made in backward.
        eager = needs_gradient and logits.dtype != torch.float16
        ctx.gradient = None
        if is_dense(logits) and not fits_triton(pair, logits, weight):
            total, ctx.gradient = dense_sum(pair, logits, target, weight, scale, eager)
            return total
        if eager:
            ctx.gradient = torch.empty(logits.shape, dtype=logits.dtype, device=logits.device)
        if is_dense(logits):
            return triton_sum(pair, logits, target, weight, scale, ctx.gradient)
        value = chunked(pair, logits, target, weight, scale, gradient=ctx.gradient)
        return torch.tensor(value, dtype=accumulation_type(logits))

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        logits, target, weight = ctx.saved_tensors
        gradient, ctx.gradient = ctx.gradient, None
        # Made anew for float16, in a second pass over a retained graph, or to be differentiated.
        if gradient is None or torch.is_grad_enabled():
            gradient = gradient_of_sum(ctx.pair, logits, target, weight, ctx.scale, upstream)
        elif fits_triton(ctx.pair, logits, weight):
            gradient = triton_rescale(gradient, upstream)
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
        if is_dense(logits):
            return dense(pair, logits, target, weight, scale)[0]
        loss = torch.empty(logits.shape, dtype=accumulation_type(logits))
        chunked(pair, logits, target, weight, scale, loss=loss)
        return loss

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        logits, target, weight = ctx.saved_tensors
        gradient = gradient_of_sum(ctx.pair, logits, target, weight, ctx.scale, upstream)
        return gradient, None, None, None, None


def gradient_of_sum(
    pair: PairLoss,
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None,
    scale: float,
    upstream: Tensor,
) -> Tensor:
    """Gradient of sum(upstream * loss) in the logits' type, computed in the accumulation type."""
    if torch.is_grad_enabled():  # create_graph=True: the closed form is differentiated in its turn
        return (dense(pair, logits, target, weight, scale)[1] * upstream).to(logits.dtype)
    if upstream.dim() == 0 and fits_triton(pair, logits, weight):
        gradient = torch.empty_like(logits)
        triton_sum(pair, logits, target, weight, scale, gradient, upstream)
        return gradient
    if is_dense(logits):
        gradient = dense(pair, logits, target, weight, scale)[1]
    else:
        gradient = torch.empty(logits.shape, dtype=accumulation_type(logits))
        chunked(pair, logits, target, weight, scale, gradient=gradient)
    return gradient.mul_(upstream).to(logits.dtype)


def accumulation_type(logits: Tensor) -> torch.dtype:
    """float32 for half precision, the logits' own type otherwise."""
    return torch.promote_types(logits.dtype, torch.float32)


def chunked(
    pair: PairLoss,
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None,
    scale: float,
    loss: Tensor | None = None,
    gradient: Tensor | None = None,
) -> float:
    """Sum the loss; also fill ``loss`` and ``gradient`` ([N, C]) where given.

    Args:
        weight: [N, 1] or [N, C].

    Returns:
        scale * sum, accumulated over chunks in double precision.
    """
    curve = pair.curve
    if type(curve) is Focal and fits_native(logits, weight):
        return native.focal_sum(
            logits.detach(),
            target.long().contiguous(),
            None if weight is None else weight.contiguous(),
            curve.gamma,
            pair.positive_factor * scale,
            pair.negative_factor * scale,
            loss,
            gradient,
        )
    count, classes = logits.shape
    rows = max(1, CHUNK * torch.get_num_threads() // classes)
    starts = range(0, count, rows)
    multiplier = None if weight is None or is_zero_or_one(weight) else weight
    ignored = rows_of_zeros(weight)
    positives = (target < classes).nonzero().squeeze(1)
    labels = target[positives].long()
    # Both as positions within their chunk: of a pair, and of a row.
    positive_pairs = split(positives % rows * classes + labels, positives, starts)
    ignored_rows = split(ignored % rows, ignored, starts)
    factor = pair.negative_factor * scale
    buffers = [
        torch.empty((min(rows, count), classes), dtype=accumulation_type(logits))
        for _ in range(3 if gradient is None or gradient.dtype == accumulation_type(logits) else 4)
    ]
    total = 0.0
    for start, pairs, hidden in zip(starts, positive_pairs, ignored_rows, strict=True):
        part = slice(start, min(start + rows, count))
        first, second, third, *rest = (buffer[: part.stop - start] for buffer in buffers)
        into = None if gradient is None else (rest[0] if rest else gradient[part])
        x = logits[part].to(first.dtype).contiguous()
        value, slope = curve.negative(x, gradient is not None, Scratch(first, second, third, into))
        for tensor in (value,) if slope is None else (value, slope):
            if multiplier is not None:
                tensor.mul_(multiplier[part]).masked_fill_(multiplier[part] == 0, 0)
            if len(pairs):
                tensor.view(-1).index_fill_(0, pairs, 0)
            if len(hidden):
                tensor.index_fill_(0, hidden, 0)
        total += value.sum().item()
        if loss is not None:
            torch.mul(value, factor, out=loss[part])
        if gradient is not None and slope is not None:
            torch.mul(slope, factor, out=gradient[part])
    total *= factor
    if len(positives):
        total += add_positives(pair, logits, positives, labels, weight, scale, loss, gradient)
    return total


def fits_native(logits: Tensor, weight: Tensor | None) -> bool:
    """Whether the compiled form of the focal loss can read these tensors, and is there."""
    plain = logits.dtype == torch.float32 and logits.is_contiguous()
    return plain and (weight is None or weight.shape[1] == 1) and native.library() is not None


def fits_triton(pair: PairLoss, logits: Tensor, weight: Tensor | None) -> bool:
    """Whether the CUDA kernel can read these tensors, and triton is there to compile it."""
    single = torch.promote_types(logits.dtype, torch.float32) == torch.float32
    plain = logits.is_cuda and single and logits.is_contiguous() and type(pair.curve) is Focal
    return plain and (weight is None or weight.shape[1] == 1) and has_triton()


@cache
def has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None


def triton_sum(
    pair: PairLoss,
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None,
    scale: float,
    gradient: Tensor | None,
    upstream: Tensor | None = None,
) -> Tensor:
    """The sum, on the device; also fill ``gradient``, times ``upstream`` if given."""
    from ablations.losses import triton_kernel

    curve = pair.curve
    assert isinstance(curve, Focal)  # see fits_triton
    return triton_kernel.focal_sum(
        logits,
        target.contiguous(),
        None if weight is None else weight.contiguous(),
        curve.gamma,
        pair.positive_factor * scale,
        pair.negative_factor * scale,
        gradient,
        upstream,
    )


def triton_rescale(gradient: Tensor, upstream: Tensor) -> Tensor:
    from ablations.losses import triton_kernel

    return triton_kernel.rescale(gradient, upstream)


def add_positives(
    pair: PairLoss,
    logits: Tensor,
    positives: Tensor,
    labels: Tensor,
    weight: Tensor | None,
    scale: float,
    loss: Tensor | None,
    gradient: Tensor | None,
) -> float:
    """Write the pairs (positives, labels) into ``loss`` and ``gradient``; return their sum."""
    value, slope = pair.curve.positive(logits[positives, labels].to(accumulation_type(logits)))
    factor = value.new_full((1,), pair.positive_factor * scale)
    if weight is not None:
        given = weight[positives, labels if weight.shape[1] > 1 else 0]
        factor = factor * given
        value, slope = value.where(given != 0, 0), slope.where(given != 0, 0)
    value, slope = value * factor, slope * factor
    if loss is not None:
        loss[positives, labels] = value
    if gradient is not None:
        gradient[positives, labels] = slope.to(gradient.dtype)
    return value.sum(dtype=torch.float64).item()


def is_zero_or_one(weight: Tensor) -> bool:
    """Whether [N, 1] weights merely pick anchors; [N, C] weights always count as multipliers."""
    return weight.shape[1] == 1 and bool(((weight == 0) | (weight == 1)).all())


def rows_of_zeros(weight: Tensor | None) -> Tensor:
    """Indices of the rows that a weight of zero leaves out altogether, ascending."""
    if weight is None:
        return torch.empty(0, dtype=torch.long)
    return (weight == 0).all(dim=1).nonzero().squeeze(1)


def split(values: Tensor, rows: Tensor, starts: range) -> list[Tensor]:
    """Cut ``values``, which belong to the ascending ``rows``, into one piece a chunk."""
    edges = torch.searchsorted(rows, torch.tensor(starts, dtype=rows.dtype)).tolist()
    return [values[a:b] for a, b in pairwise([*edges, len(rows)])]


def dense_sum(
    pair: PairLoss,
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None,
    scale: float,
    needs_gradient: bool,
) -> tuple[Tensor, Tensor | None]:
    """The sum and, if wanted, its gradient in the logits' type."""
    loss, gradient = dense(pair, logits, target, weight, scale)
    return loss.sum(), gradient.to(logits.dtype) if needs_gradient else None


def dense(
    pair: PairLoss, logits: Tensor, target: Tensor, weight: Tensor | None, scale: float
) -> tuple[Tensor, Tensor]:
    """Loss and gradient of every pair, [N, C], without reading a value on the host."""
    classes = logits.shape[1]
    x = logits.to(accumulation_type(logits))
    label = target.long().clamp(0, classes - 1).unsqueeze(1)
    positive = ((target >= 0) & (target < classes)).unsqueeze(1)
    value, slope = pair.curve.negative(x)
    assert slope is not None  # it was asked for
    value, slope = value * pair.negative_factor, slope * pair.negative_factor
    value_there, slope_there = pair.curve.positive(x.gather(1, label))
    value_there, slope_there = (
        torch.where(positive, there * pair.positive_factor, everywhere.gather(1, label))
        for there, everywhere in ((value_there, value), (slope_there, slope))
    )
    value, slope = value.scatter(1, label, value_there), slope.scatter(1, label, slope_there)
    valid = ((target >= 0) & (target <= classes)).unsqueeze(1)
    factor = torch.where(valid, x.new_full((), scale), torch.nan)
    if weight is not None:
        factor = factor * weight
        kept = factor != 0  # NaN counts as kept
        return (value * factor).where(kept, 0), (slope * factor).where(kept, 0)
    return value * factor, slope * factor
