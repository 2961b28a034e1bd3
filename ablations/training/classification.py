"""What a head's classification loss is asked: its logits, labels and weights, in one form.

A dense head calls its ``loss_cls`` with the labels of its anchors or locations, a second stage with
those of its proposals. YOLOv3 gives a 0 or 1 for each logit. SSD computes its loss itself, and OHEM
picks anchors first. Whoever wants to see the labels gets all of these as ``Seen``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from mmdet.models.dense_heads import SSDHead
from torch import Tensor, nn

from ablations.training.heads import Head

_ARGUMENTS = ("pred", "target", "weight", "avg_factor")
_ALSO = {"cls_score": "pred", "label": "target"}  # mmdet's CrossEntropyLoss


@dataclass(frozen=True)
class Seen:
    """One call of a classification loss.

    Args:
        logits: [N, C], or [N, C + 1] for a softmax, whose last column is background; [N, 1] where
            a target was given for each logit.
        labels: [N]; C is background.
        weight: [N] or [N, C], or ``None``; 0 is ignored.
        factor: what the loss's sum is divided by.
        softmax: whether the classes and background share a softmax.
        in_pairs: whether the loss was given a target for each logit.
    """

    logits: Tensor
    labels: Tensor
    weight: Tensor | None
    factor: float | Tensor
    softmax: bool = False
    in_pairs: bool = False

    @property
    def background(self) -> int:
        """The label of background."""
        return self.logits.shape[1] - int(self.softmax)

    def positive_rows(self) -> Tensor:
        """Indices of the rows that are assigned to an object."""
        return torch.nonzero(self.labels < self.background).squeeze(1)

    def row_weight(self) -> Tensor:
        """The weight of each row: the largest of its pairs."""
        if self.weight is None:
            return self.logits.new_ones(len(self.logits))
        return self.weight.reshape(len(self.logits), -1).amax(1)

    def counts(self) -> tuple[Tensor, Tensor]:
        """Rows that are not ignored, and how many of them are positive."""
        kept = self.row_weight() != 0
        return kept.sum(), (kept & (self.labels < self.background)).sum()


def seen(loss: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Seen | None:
    """A call of ``loss`` with these arguments; ``None`` if it gives no labels."""
    values = dict(zip(_ARGUMENTS, args, strict=False))
    values |= {_ALSO.get(name, name): value for name, value in kwargs.items()}
    pred, target, weight = values.get("pred"), values.get("target"), values.get("weight")
    if isinstance(target, tuple | list) and target:  # quality focal loss: labels and scores
        target = target[0]
    if not (isinstance(pred, Tensor) and isinstance(target, Tensor)):
        return None
    factor = values.get("avg_factor")
    if factor is None:
        factor = 1.0 if getattr(loss, "reduction", "mean") == "sum" else max(target.numel(), 1)
    if target.is_floating_point():
        if target.shape != pred.shape:
            return None
        labels = (target.reshape(-1) <= 0).long()
        if weight is not None:
            weight = weight.expand(target.shape).reshape(-1)
        return Seen(pred.reshape(-1, 1), labels, weight, factor, in_pairs=True)
    if target.dim() != 1 or pred.dim() != 2:
        return None
    softmax = getattr(loss, "use_sigmoid", True) is False
    return Seen(pred, target, weight, factor, softmax)


def watch(
    head: Head, name: str, tell: Callable[[Seen], object], before_mining: bool = False
) -> Callable[[], object]:
    """Call ``tell`` with every call of a head's classification loss in training.

    Args:
        head: the head.
        name: the loss's attribute.
        tell: must not change anything.
        before_mining: of a head that mines hard anchors: all that it chooses from.

    Returns:
        A function that ends it.
    """
    if isinstance(head.module, SSDHead):
        return _watch_ssd(head.module, tell)
    if before_mining and hasattr(head.module, "anchor_losses"):
        return _watch_mining(head.module, tell)
    loss = head.losses[name]

    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], _out: Any) -> None:
        if module.training and (found := seen(module, args, kwargs)) is not None:
            tell(found)

    handle = loss.register_forward_hook(hook, with_kwargs=True)
    return handle.remove


def _watch_ssd(head: SSDHead, tell: Callable[[Seen], object]) -> Callable[[], object]:
    """SSD's loss of an image: softmax cross entropy of all anchors, of which it then mines."""
    single = head.loss_by_feat_single

    def told(cls_score: Tensor, *args: Any, avg_factor: Any, **kwargs: Any) -> Any:
        _, _, labels, weights, *_ = args
        tell(Seen(cls_score, labels, weights, avg_factor, softmax=True))
        return single(cls_score, *args, avg_factor=avg_factor, **kwargs)

    return put(head, "loss_by_feat_single", told)


def _watch_mining(head: Any, tell: Callable[[Seen], object]) -> Callable[[], object]:
    """OHEM's scores of all anchors, from which it picks."""
    score = head.anchor_losses

    def told(cls_scores: list[Tensor], labels: list[Tensor], weights: list[Tensor]) -> Any:
        for logits, label, weight in zip(cls_scores, labels, weights, strict=True):
            rows = logits.permute(0, 2, 3, 1).reshape(-1, head.cls_out_channels)
            tell(Seen(rows, label.reshape(-1), weight.reshape(-1), 1.0))
        return score(cls_scores, labels, weights)

    return put(head, "anchor_losses", told)


def put(owner: Any, name: str, function: Any) -> Callable[[], object]:
    """Put a function in the place of a method; what is returned puts the method back."""
    before = vars(owner).get(name)  # that of another watch
    setattr(owner, name, function)
    return lambda: delattr(owner, name) if before is None else setattr(owner, name, before)
