"""Focal loss and its gradient on CUDA: one read of the logits, one write of the gradient.

This kernel has not yet run on a GPU. It is tested value by value in Triton's interpreter on the
CPU, which does not test its speed or that it compiles for a device.

The mathematics is that of `ablations.losses.formulas.Focal`, with z the logit of 1 - p_t. Sums of
blocks are added up in a fixed order, so results repeat to the bit. Importing this module needs
triton.
"""

from contextlib import nullcontext
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ablations.losses.pairs import Pairs

BLOCK = 2048


@triton.jit
def focal_kernel(  # type: ignore[no-untyped-def]  # Triton knows no annotation but constexpr
    logits,
    target,
    weight,
    upstream,
    gradient,
    block_sums,
    elements,
    gamma,
    positive_factor,
    negative_factor,
    CLASSES: tl.constexpr,
    GAMMA_IS: tl.constexpr,
    HAS_WEIGHT: tl.constexpr,
    HAS_UPSTREAM: tl.constexpr,
    HAS_GRADIENT: tl.constexpr,
    SIZE: tl.constexpr,
) -> None:
    """One block of flattened [N, C] logits. GAMMA_IS: 0, 1 or 2 where gamma is, else -1."""
    block = tl.program_id(0).to(tl.int64)
    start = block * SIZE
    offset = start + tl.arange(0, SIZE)
    inside = offset < elements
    # One long division a block; within it short ones, by a constant.
    first_row = start // CLASSES
    along = (start - first_row * CLASSES).to(tl.int32) + tl.arange(0, SIZE)
    row = first_row + along // CLASSES
    x = tl.load(logits + offset, mask=inside, other=0.0).to(tl.float32)
    label = tl.load(target + row, mask=inside, other=0)
    positive = along % CLASSES == label
    z = tl.where(positive, -x, x)

    e = tl.exp(-tl.abs(z))
    # log(1 + e) = 2 artanh(s), s = e / (2 + e) <= 1/3: keeps the digits of a small e.
    s = e / (2.0 + e)
    q = s * s
    series = q * (1.0 / 13 + q * (1.0 / 15))
    series = 1.0 / 5 + q * (1.0 / 7 + q * (1.0 / 9 + q * (1.0 / 11 + series)))
    log_sum = 2.0 * s * (1.0 + q * (1.0 / 3 + q * series))
    wrong = tl.where(z < 0, e, 1.0) / (1.0 + e)  # 1 - p_t
    p_t = tl.where(z < 0, 1.0, e) / (1.0 + e)
    cross_entropy = tl.where(z < 0, 0.0, z) + log_sum

    factor = tl.where(positive, positive_factor, negative_factor)
    if GAMMA_IS == 1:
        factor = factor * wrong
    elif GAMMA_IS == 2:
        factor = factor * wrong * wrong
    elif GAMMA_IS == -1:
        factor = factor * tl.exp(gamma * (tl.where(z < 0, z, 0.0) - log_sum))
    kept = inside
    if HAS_WEIGHT:
        weight_here = tl.load(weight + row, mask=inside, other=0.0)
        factor = factor * weight_here
        kept = kept & (weight_here != 0)
    # Reading labels on the host would stall the device, so a bad label gives NaN.
    bad = (label < 0) | (label > CLASSES)
    factor = tl.where(bad, float("nan"), factor)
    kept = kept | (bad & inside)

    value = tl.where(kept, factor * cross_entropy, 0.0)
    tl.store(block_sums + block, tl.sum(value, axis=0))
    if HAS_GRADIENT:
        slope = factor * (wrong + gamma * p_t * cross_entropy)
        slope = tl.where(kept, tl.where(positive, -slope, slope), 0.0)
        if HAS_UPSTREAM:
            slope = slope * tl.load(upstream)
        tl.store(gradient + offset, slope.to(gradient.dtype.element_ty), mask=inside)


@triton.jit
def rescale_kernel(  # type: ignore[no-untyped-def]
    values, factor, elements, SIZE: tl.constexpr
) -> None:
    """Multiply in place; a factor of 1, the usual case, touches no memory."""
    scale = tl.load(factor).to(tl.float32)
    if scale != 1.0:
        offset = tl.program_id(0).to(tl.int64) * SIZE + tl.arange(0, SIZE)
        inside = offset < elements
        scaled = tl.load(values + offset, mask=inside).to(tl.float32) * scale
        tl.store(values + offset, scaled.to(values.dtype.element_ty), mask=inside)


def sum_loss(pairs: Pairs, gradient: Tensor | None, upstream: Tensor | None = None) -> Tensor:
    """The sum of the focal loss, float32 without dimension; NaN if a label is not in [0, C].

    Args:
        pairs: with a ``compiled_gamma``.
        gradient: None, or [N, C] of any floating point type, contiguous, to be filled.
        upstream: None, or one value on the device, which multiplies the gradient.
    """
    logits, gamma = pairs.logits, float(pairs.compiled_gamma or 0)
    elements, classes = logits.numel(), logits.shape[1]
    blocks = triton.cdiv(elements, BLOCK)
    block_sums = torch.empty(blocks, dtype=torch.float32, device=logits.device)
    if blocks:
        with on_device(logits):
            focal_kernel[(blocks,)](
                logits,
                pairs.target.contiguous(),
                None if pairs.weight is None else pairs.weight.contiguous(),
                upstream,
                gradient,
                block_sums,
                elements,
                gamma,
                *pairs.factors,
                CLASSES=classes,
                GAMMA_IS=int(gamma) if gamma in (0, 1, 2) else -1,
                HAS_WEIGHT=pairs.weight is not None,
                HAS_UPSTREAM=upstream is not None,
                HAS_GRADIENT=gradient is not None,
                SIZE=BLOCK,
            )
    return block_sums.sum()


def rescale(values: Tensor, factor: Tensor) -> Tensor:
    """``values`` times a factor without dimension, in place, without reading it on the host."""
    blocks = triton.cdiv(values.numel(), BLOCK)
    if blocks:
        with on_device(values):
            rescale_kernel[(blocks,)](values, factor, values.numel(), SIZE=BLOCK)
    return values


def on_device(tensor: Tensor) -> Any:
    """Make the tensor's device the current one, on which kernels are launched."""
    return torch.cuda.device(tensor.device) if tensor.is_cuda else nullcontext()
