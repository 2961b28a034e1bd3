"""The formulas of the losses: value and slope of one anchor-class pair, in closed form.

A formula gets only logits. ``negative`` treats every entry of its input as a pair with y = 0,
``positive`` as a pair with y = 1. Labels, weights, alpha and reductions are handled in
`ablations.losses.fused`. Names follow "Focal Loss for Dense Object Detection" (Lin et al.,
arXiv:1708.02002): p = sigmoid(x); p_t = p for y = 1 and 1 - p for y = 0; x_t = x for y = 1 and -x
for y = 0, so that p_t = sigmoid(x_t).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Scratch(NamedTuple):
    """Buffers of the input's shape that a formula may return or overwrite; `None`: new tensors.

    They only save memory traffic; a formula need not use them.
    """

    first: Tensor | None = None
    second: Tensor | None = None
    third: Tensor | None = None
    slope: Tensor | None = None


NEW = Scratch()


@dataclass(frozen=True)
class Formula:
    """Value and slope of a loss at a logit.

    A subclass defines at least ``value``; its slope then comes from automatic differentiation, so
    it must be finite at every logit. Override ``negative`` to give the closed form, and
    ``positive`` if the loss treats positives and negatives differently.
    """

    def value(self, x_t: Tensor) -> Tensor:
        """The loss of pairs whose true side has logit ``x_t``, elementwise."""
        raise NotImplementedError(f"{type(self).__name__} defines neither value nor negative")

    def negative(
        self,
        x: Tensor,
        slope: bool = True,
        out: Scratch = NEW,
    ) -> tuple[Tensor, Tensor | None]:
        """Value and d(value)/dx of pairs with y = 0, both of x's shape (slope only if asked)."""
        if not slope:
            return self.value(-x), None
        again = torch.is_grad_enabled() and x.requires_grad  # a second derivative is wanted
        with torch.enable_grad():
            leaf = x if again else x.detach().requires_grad_()
            value = self.value(-leaf)
            (gradient,) = torch.autograd.grad(value.sum(), leaf, create_graph=again)
        return value.detach(), gradient.contiguous()

    def positive(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Value and slope of pairs with y = 1: those of y = 0 at -x, mirrored."""
        value, slope = self.negative(-x)
        assert slope is not None  # it was asked for
        return value, -slope


@dataclass(frozen=True)
class Focal(Formula):
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
        modulator = power(p, self.gamma, out.third)
        gradient = None
        if slope:  # p^gamma (p + gamma (1 - p) CE)
            # sigmoid(-x), because 1 - p loses its digits where p is near 1.
            p_t = torch.sigmoid(torch.neg(x, out=out.slope), out=out.slope)
            gradient = torch.addcmul(p, p_t, cross_entropy, value=self.gamma, out=out.slope)
            gradient = torch.mul(gradient, modulator, out=out.slope)
        return torch.mul(modulator, cross_entropy, out=out.first), gradient


@dataclass(frozen=True)
class Poly1Focal(Focal):
    """FL + epsilon (1 - p_t)^(gamma + 1): Poly-1 of "PolyLoss" (Leng et al., arXiv:2204.12511).

    FL is sum over j >= 1 of (1 - p_t)^(j + gamma) / j; Poly-1 adds epsilon to the first
    coefficient. alpha_t, where there is one, weighs the whole sum. The loss is negative where
    epsilon < -1 and p_t is near 1: allowed, as in the paper.
    """

    epsilon: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("epsilon", self.epsilon, low=-math.inf)

    def negative(
        self, x: Tensor, slope: bool = True, out: Scratch = NEW
    ) -> tuple[Tensor, Tensor | None]:
        value, gradient = super().negative(x, slope, out)
        p = torch.sigmoid(x, out=out.second)
        term = power(p, self.gamma + 1, out.third)
        if gradient is not None:
            complement = torch.sigmoid(-x)
            gradient = gradient.addcmul(term, complement, value=self.epsilon * (self.gamma + 1))
        return torch.add(value, term, alpha=self.epsilon, out=out.first), gradient


@dataclass(frozen=True)
class FocalStar(Formula):
    """FL* = -log(p*_t) / gamma, p*_t = sigmoid(gamma x_t + beta): appendix A of arXiv:1708.02002.

    Its slope is y' (p*_t - 1), eq. 11 of appendix B. It needs gamma > 0 and has no alpha.
    """

    gamma: float = 2.0
    beta: float = 1.0

    def __post_init__(self) -> None:
        check_number("gamma", self.gamma, low=0.0, include_low=False)
        check_number("beta", self.beta, low=-math.inf)

    def negative(
        self, x: Tensor, slope: bool = True, out: Scratch = NEW
    ) -> tuple[Tensor, Tensor | None]:
        logit = torch.mul(x, self.gamma, out=out.second).sub_(self.beta)  # of 1 - p*_t
        value = torch.div(softplus(logit, out.first), self.gamma, out=out.first)
        return value, torch.sigmoid(logit, out=out.slope) if slope else None


@dataclass(frozen=True)
class Hinge(Formula):
    """max(0, margin - p_t).

    arXiv:1708.02002 only says that a hinge loss on p_t, zero above some p_t, was tried and was
    unstable. This form, and margin = 0.5, are this project's own definition.
    """

    margin: float = 0.5

    def __post_init__(self) -> None:
        check_number("margin", self.margin, low=0.0, high=1.0, include_low=False)

    def negative(
        self, x: Tensor, slope: bool = True, out: Scratch = NEW
    ) -> tuple[Tensor, Tensor | None]:
        p_t = torch.sigmoid(-x, out=out.first)
        gradient = None
        if slope:
            p = torch.sigmoid(x, out=out.second)
            gradient = torch.mul(p, p_t, out=out.slope).masked_fill_(p_t >= self.margin, 0)
        return torch.sub(self.margin, p_t, out=out.first).clamp_(min=0), gradient


@dataclass(frozen=True)
class Asymmetric(Formula):
    """ASL, eq. 7 of "Asymmetric Loss For Multi-Label Classification" (arXiv:2009.14119).

    y = 1: -(1 - p)^gamma_pos log(p); y = 0: -p_m^gamma_neg log(1 - p_m), p_m = max(p - margin, 0)
    (eq. 5). The gradient is the loss's own: the modulating factors are not held constant.
    """

    gamma_pos: float = 0.0
    gamma_neg: float = 4.0
    margin: float = 0.05

    def __post_init__(self) -> None:
        check_number("gamma_pos", self.gamma_pos, low=0.0)
        check_number("gamma_neg", self.gamma_neg, low=0.0)
        check_number("margin", self.margin, low=0.0, high=1.0)

    def negative(
        self, x: Tensor, slope: bool = True, out: Scratch = NEW
    ) -> tuple[Tensor, Tensor | None]:
        if self.margin == 0:
            return Focal(self.gamma_neg).negative(x, slope, out)
        p, complement = torch.sigmoid(x), torch.sigmoid(-x)
        shifted = (p - self.margin).clamp(min=0)  # p_m
        # log1p is exact near p_m = 0, the sum near p_m = 1.
        remainder = complement + self.margin  # 1 - p_m
        cross_entropy = -torch.where(shifted < 0.5, torch.log1p(-shifted), remainder.log())
        modulator = power(shifted, self.gamma_neg)
        value = modulator * cross_entropy
        if not slope:
            return value, None
        tiny = torch.finfo(x.dtype).tiny
        ratio = torch.where(shifted > tiny, cross_entropy / shifted.clamp(min=tiny), 1)
        gradient = modulator * (self.gamma_neg * ratio + 1 / remainder) * p * complement
        return value, gradient.masked_fill(p <= self.margin, 0)

    def positive(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return Focal(self.gamma_pos).positive(x)


def softplus(x: Tensor, out: Tensor | None = None) -> Tensor:
    """log(1 + exp(x)), exact to rounding for every finite x: the cross entropy of a negative."""
    # From 40 on, log1p(exp(-x)) is below half an ulp of x in float64 too.
    return F.softplus(x, 1.0, 40.0, out=out)  # type: ignore[call-arg]  # missing in the stub


def power(p: Tensor, gamma: float, out: Tensor | None = None) -> Tensor:
    """p^gamma for p >= 0; multiples of one half up to 10 by multiplication, `pow` is far slower.

    The result may be ``p`` itself (gamma = 1): do not write to it.
    """
    whole, half = divmod(gamma, 1.0)
    if gamma == 0:
        return torch.ones_like(p)
    if gamma == 1:
        return p
    if gamma > 10 or half not in (0.0, 0.5):
        return torch.pow(p, gamma, out=out)
    product = torch.sqrt(p, out=out) if half else torch.mul(p, p, out=out)
    for _ in range(int(whole) - (0 if half else 2)):
        product = torch.mul(product, p, out=out)
    return product


def check_number(
    name: str, value: Any, low: float, high: float = math.inf, include_low: bool = True
) -> None:
    """Raise a ValueError unless ``value`` is a finite number between ``low`` and ``high``."""
    number = not isinstance(value, bool) and isinstance(value, int | float)
    inside = number and (low < value <= high or (include_low and value == low))
    if inside and math.isfinite(value):
        return
    valid = f"{'[' if include_low else '('}{low:g}, {high:g}]"
    raise ValueError(f"{name}={value!r} is not valid: it must be a finite number in {valid}")
