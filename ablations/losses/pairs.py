"""The input of one call: anchor-class pairs, and the loss of a pair."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ablations.losses.formulas import Focal, Formula, check_number


@dataclass(frozen=True)
class PairLoss:
    """A formula and the factors alpha_t: the loss of one anchor-class pair, before any weight."""

    formula: Formula
    positive_factor: float = 1.0
    negative_factor: float = 1.0


def balanced(formula: Formula, alpha: float | None) -> PairLoss:
    """alpha_t times ``formula``: alpha for positives, 1 - alpha for negatives; no factor for None.

    Raises:
        ValueError: alpha is not in [0, 1].
    """
    if alpha is None:
        return PairLoss(formula)
    check_number("alpha", alpha, low=0.0, high=1.0)
    return PairLoss(formula, positive_factor=alpha, negative_factor=1.0 - alpha)


@dataclass(frozen=True)
class Pairs:
    """Checked input: [N, C] pairs and the factors of their loss.

    Args:
        loss: of one pair.
        logits: [N, C].
        target: [N], integer labels; C is background.
        weight: None, or [N, 1] or [N, C] of type ``dtype``; 0 leaves out, even a NaN logit.
        scale: multiplies every loss.
    """

    loss: PairLoss
    logits: Tensor
    target: Tensor
    weight: Tensor | None
    scale: float

    @property
    def dtype(self) -> torch.dtype:
        """The type in which losses are computed and summed: at least float32."""
        return torch.promote_types(self.logits.dtype, torch.float32)

    @property
    def factors(self) -> tuple[float, float]:
        """The factors of a positive's and of a negative's value of the formula."""
        return self.loss.positive_factor * self.scale, self.loss.negative_factor * self.scale

    @property
    def compiled_gamma(self) -> float | None:
        """gamma if a compiled kernel can evaluate these pairs: focal loss, one weight an anchor."""
        formula, weight = self.loss.formula, self.weight
        plain = self.logits.is_contiguous() and (weight is None or weight.shape[1] == 1)
        return formula.gamma if plain and type(formula) is Focal else None
