"""Evaluate any formula on the CPU, chunk by chunk, with PyTorch's operators.

In detection nearly every anchor-class pair is a negative. So no one-hot target is built. Each chunk
of logits, small enough to stay in the cache, is evaluated as if every pair were a negative. Then
ignored anchors and the positives' own classes are set to zero, and the few positives are written
there.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from ablations.losses.formulas import Scratch
from ablations.losses.pairs import Pairs

# Elements in a chunk, per thread: four float32 buffers of this size fit the second-level cache.
CHUNK = 32_768


def sum_loss(pairs: Pairs, loss: Tensor | None = None, gradient: Tensor | None = None) -> float:
    """Sum the loss, over chunks in double precision; fill ``loss`` and ``gradient`` ([N, C])."""
    logits, target, weight = pairs.logits, pairs.target, pairs.weight
    count, classes = logits.shape
    formula, (_, factor) = pairs.loss.formula, pairs.factors
    rows = max(1, CHUNK * torch.get_num_threads() // classes)
    starts = range(0, count, rows)
    multiplier = None if weight is None or is_zero_or_one(weight) else weight
    ignored = rows_of_zeros(weight)
    positives = (target < classes).nonzero().squeeze(1)
    labels = target[positives].long()
    # Both as positions within their chunk: of a pair, and of a row.
    positive_pairs = split(positives % rows * classes + labels, positives, starts)
    ignored_rows = split(ignored % rows, ignored, starts)
    buffers = [
        torch.empty((min(rows, count), classes), dtype=pairs.dtype)
        for _ in range(3 if gradient is None or gradient.dtype == pairs.dtype else 4)
    ]
    total = 0.0
    for start, mine, hidden in zip(starts, positive_pairs, ignored_rows, strict=True):
        part = slice(start, min(start + rows, count))
        first, second, third, *rest = (buffer[: part.stop - start] for buffer in buffers)
        into = None if gradient is None else (rest[0] if rest else gradient[part])
        x = logits[part].to(first.dtype).contiguous()
        value, slope = formula.negative(
            x, gradient is not None, Scratch(first, second, third, into)
        )
        for tensor in (value,) if slope is None else (value, slope):
            if multiplier is not None:
                tensor.mul_(multiplier[part]).masked_fill_(multiplier[part] == 0, 0)
            if len(mine):
                tensor.view(-1).index_fill_(0, mine, 0)
            if len(hidden):
                tensor.index_fill_(0, hidden, 0)
        total += value.sum().item()
        if loss is not None:
            torch.mul(value, factor, out=loss[part])
        if gradient is not None and slope is not None:
            torch.mul(slope, factor, out=gradient[part])
    total *= factor
    if len(positives):
        total += add_positives(pairs, positives, labels, loss, gradient)
    return total


def add_positives(
    pairs: Pairs,
    positives: Tensor,
    labels: Tensor,
    loss: Tensor | None,
    gradient: Tensor | None,
) -> float:
    """Write the pairs (positives, labels) into ``loss`` and ``gradient``; return their sum."""
    value, slope = pairs.loss.formula.positive(pairs.logits[positives, labels].to(pairs.dtype))
    factor = value.new_full((1,), pairs.factors[0])
    if pairs.weight is not None:
        given = pairs.weight[positives, labels if pairs.weight.shape[1] > 1 else 0]
        factor = factor * given
        value, slope = value.where(given != 0, 0), slope.where(given != 0, 0)
    value, slope = value * factor, slope * factor
    if loss is not None:
        loss[positives, labels] = value
    if gradient is not None:
        gradient[positives, labels] = slope.to(gradient.dtype)
    return value.sum(dtype=torch.float64).item()


def is_zero_or_one(weight: Tensor) -> bool:
    """Whether weights [N, 1] are all 0 or 1; False for [N, C], which always multiply."""
    return weight.shape[1] == 1 and bool(((weight == 0) | (weight == 1)).all())


def rows_of_zeros(weight: Tensor | None) -> Tensor:
    """Indices of the rows whose weights are all zero, ascending."""
    if weight is None:
        return torch.empty(0, dtype=torch.long)
    return (weight == 0).all(dim=1).nonzero().squeeze(1)


def split(values: Tensor, rows: Tensor, starts: range) -> list[Tensor]:
    """Cut ``values``, which belong to the ascending ``rows``, into one piece a chunk."""
    edges = torch.searchsorted(rows, torch.tensor(starts, dtype=rows.dtype)).tolist()
    return [values[a:b] for a, b in pairwise([*edges, len(rows)])]
