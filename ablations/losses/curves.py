"""The losses as curves: value and slope of one anchor-class pair, in closed form.

A curve sees nothing but logits. ``negative`` treats every entry of its input as a pair with
y = 0, ``positive`` as a pair with y = 1; labels, weights, alpha and reductions are the business of
`ablations.losses.fused`. Names follow "Focal Loss for Dense Object Detection" (Lin et al.,
arXiv:1708.02002): p = sigmoid(x), p_t = p for y = 1 and 1 - p for y = 0.

Every curve keeps one promise the rest relies on: a pair with y = 0 at x = -inf (the perfect
negative) has value 0 and slope 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Scratch(NamedTuple):
    """Buffers of the input's shape that a curve may overwrite; `None` asks for new tensors.

    ``logits`` is the curve's own input: a curve may reuse it once it has read it for the last time.
    """

    logits: Tensor | None = None
    first: Tensor | None = None
    second: Tensor | None = None
    slope: Tensor | None = None


NEW = Scratch()


@dataclass(frozen=True)
class Curve:
    """Value and slope of a loss at a logit. Subclasses define ``negative``; most need no more."""

    def negative(
        self, x: Tensor, slope: bool = True, out: Scratch = NEW
    ) -> tuple[Tensor, Tensor | None]:
        """Value and d(value)/dx of pairs with y = 0, both of x's shape (slope only if asked)."""
        raise NotImplementedError

    def positive(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Value and slope of pairs with y = 1: the negative's, mirrored, since x_t = -x there."""
        value, slope = self.negative(-x)
        if slope is None:
            raise RuntimeError(f"{type(self).__name__}.negative returned no slope")
        return value, -slope


@dataclass(frozen=True)
class Focal(Curve):
    """(1 - p_t)^gamma * -log(p_t), eq. 4 of arXiv:1708.02002; gamma = 0 is cross entropy, eq. 1.

    Its slope is appendix B's y' (1 - p_t)^gamma (gamma p_t log(p_t) + p_t - 1), y' in {-1, 1}. It
    is finite for every gamma >= 0, also where automatic differentiation through ``pow`` is not
    (0 < gamma < 1 at p_t = 1).
    """

    gamma: float = 2.0

    def __post_init__(self) -> None:
        check_number("gamma", self.gamma, low=0.0)

    def negative(
        self, x: Tensor, slope: bool = True, out: Scratch = NEW
    ) -> tuple[Tensor, Tensor | None]:
        cross_entropy = softplus(x, out.first)
        if self.gamma == 0:
            return cross_entropy, torch.sigmoid(x, out=out.slope) if slope else None
        p = torch.sigmoid(x, out=out.second)  # 1 - p_t
        modulator = power(p, self.gamma, out.logits)
        gradient = None
        if slope:  # p^gamma (p + gamma (1 - p) CE)
            gradient = torch.addcmul(cross_entropy, p, cross_entropy, value=-1, out=out.slope)
            gradient = torch.add(p, gradient, alpha=self.gamma, out=out.slope)
            gradient = torch.mul(gradient, modulator, out=out.slope)
        return torch.mul(modulator, cross_entropy, out=out.first), gradient


def softplus(x: Tensor, out: Tensor | None = None) -> Tensor:
    """log(1 + exp(x)), exact to rounding for every finite x: the cross entropy of a negative."""
    # From 40 on, log1p(exp(-x)) is below half an ulp of x in float64 too.
    return F.softplus(x, 1.0, 40.0, out=out)  # type: ignore[call-arg]  # missing in the stub


def power(p: Tensor, gamma: float, out: Tensor | None = None) -> Tensor:
    """p^gamma for p >= 0; multiples of one half up to 10 by multiplication, `pow` is far slower.

    The result may be ``p`` itself (gamma = 1): do not write to it.
    """
    whole, half = divmod(gamma, 1.0)
    if gamma == 1:
        return p
    if gamma > 10 or half not in (0.0, 0.5):
        return torch.pow(p, gamma, out=out)
    product = torch.sqrt(p, out=out) if half else torch.mul(p, p, out=out)
    for _ in range(int(whole) - (0 if half else 2)):
        product = torch.mul(product, p, out=out)
    return product


def check_number(name: str, value: object, low: float, high: float = math.inf) -> None:
    """Raise a ValueError unless ``value`` is a finite number in [low, high]."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if number and math.isfinite(value) and low <= value <= high:  # type: ignore[arg-type, operator]
        return
    raise ValueError(f"{name}={value!r} is not valid: a finite number in [{low:g}, {high:g}] is")
