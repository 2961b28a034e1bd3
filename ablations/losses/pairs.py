"""The anchor-class pairs of one call and the loss of each: what is there to evaluate."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ablations.losses.curves import Curve, Focal


@dataclass(frozen=True)
class PairLoss:
    """A curve and the factors alpha_t: the loss of one anchor-class pair, before any weight."""

    curve: Curve
    positive_factor: float = 1.0
    negative_factor: float = 1.0


@dataclass(frozen=True)
class Pairs:
    """Checked input: [N, C] pairs and what to multiply their loss with.

    Args:
        loss: of one pair.
        logits: [N, C].
        target: [N], integer labels; C is background.
        weight: None, or [N, 1] or [N, C] of type ``dtype``; 0 leaves out, whatever the logits hold.
        scale: multiplies every loss.
    """

    loss: PairLoss
    logits: Tensor
    target: Tensor
    weight: Tensor | None
    scale: float

    @property
    def dtype(self) -> torch.dtype:
        """What losses are computed and summed in: at least float32."""
        return torch.promote_types(self.logits.dtype, torch.float32)

    @property
    def factors(self) -> tuple[float, float]:
        """What multiplies a positive's and a negative's value on the curve."""
        return self.loss.positive_factor * self.scale, self.loss.negative_factor * self.scale

    @property
    def compiled_gamma(self) -> float | None:
        """gamma, if a compiled kernel may take these pairs: the focal loss, a weight per anchor."""
        curve, weight = self.loss.curve, self.weight
        plain = self.logits.is_contiguous() and (weight is None or weight.shape[1] == 1)
        return curve.gamma if plain and type(curve) is Focal else None
