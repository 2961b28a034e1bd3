"""Online hard example mining, for Table 1d of arXiv:1708.02002.

The paper describes it in two sentences: every example is scored by its loss, non-maximum
suppression is applied, and the highest-loss examples make the minibatch; a variant then enforces
three negatives for each positive. Where the paper gives no details, this project chose:

- The score of an anchor is its classification loss, summed over classes. Ignored anchors have none.
- Mining is per image, over all its levels, with the anchors' own boxes in the suppression.
- With a ratio, suppression runs among positives and among negatives separately: a hard negative
  must not remove a positive that the ratio protects. The minibatch then consists of the hardest
  positives, at most N / (1 + ratio), and the ``ratio`` hardest negatives for each of them
  (``ratio`` negatives in an image without positives).
- Mining changes only the anchors in the classification loss. The normaliser (the number of anchors
  assigned to an object) and the box loss stay RetinaNet's.
"""

from __future__ import annotations

from typing import Any

import torch
from mmcv.ops import nms
from mmdet.models.dense_heads import RetinaHead
from mmdet.models.utils import images_to_levels, multi_apply
from torch import Tensor

from ablations.losses.formulas import check_number
from ablations.losses.registry import LOSSES


@LOSSES.register_module()
class OHEMRetinaHead(RetinaHead):
    """RetinaHead whose classification loss sees each image's hardest anchors only.

        model = dict(bbox_head=dict(type='ablations.OHEMRetinaHead', batch_anchors=512,
                                    loss_cls=dict(type='ablations.CrossEntropyLoss',
                                                  use_sigmoid=True)))

    Args:
        batch_anchors: anchors an image keeps at most; the paper tries 128, 256 and 512.
        nms_threshold: IoU above which the harder of two anchors suppresses the other; the paper
            tries 0.5 and 0.7.
        negatives_per_positive: None, or the enforced ratio; the paper's is 3.
    """

    def __init__(
        self,
        *args: Any,
        batch_anchors: int = 512,
        nms_threshold: float = 0.7,
        negatives_per_positive: int | None = None,
        **options: Any,
    ) -> None:
        for name, value in (
            ("batch_anchors", batch_anchors),
            ("negatives_per_positive", negatives_per_positive),
        ):
            optional = name == "negatives_per_positive" and value is None
            if not optional and (type(value) is not int or value < 1):
                raise ValueError(f"{name}={value!r} is not valid: it must be a positive integer")
        check_number("nms_threshold", nms_threshold, low=0.0, high=1.0)
        super().__init__(*args, **options)
        if not self.use_sigmoid_cls:
            raise ValueError(
                "loss_cls must say use_sigmoid=True: AnchorHead reads it in the config"
            )
        self.batch_anchors = batch_anchors
        self.nms_threshold = nms_threshold
        self.negatives_per_positive = negatives_per_positive

    def loss_by_feat(
        self,
        cls_scores: list[Tensor],
        bbox_preds: list[Tensor],
        batch_gt_instances: list[Any],
        batch_img_metas: list[dict[str, Any]],
        batch_gt_instances_ignore: list[Any] | None = None,
    ) -> dict[str, list[Tensor]]:
        """As RetinaHead's, with the label weights of all but the mined anchors set to zero.

        Args:
            cls_scores: a level [B, A * C, H, W].
            bbox_preds: a level [B, A * 4, H, W].
        """
        sizes = [level.shape[-2:] for level in cls_scores]
        anchors, valid = self.get_anchors(sizes, batch_img_metas, device=cls_scores[0].device)
        labels, weights, box_targets, box_weights, avg_factor = self.get_targets(
            anchors,
            valid,
            batch_gt_instances,
            batch_img_metas,
            batch_gt_instances_ignore=batch_gt_instances_ignore,
        )
        level_sizes = [len(level) for level in anchors[0]]
        boxes = [torch.cat(levels) for levels in anchors]
        scores = self.anchor_losses(cls_scores, labels, weights)
        kept = [
            hardest_anchors(
                image_scores,
                image_boxes,
                positive,
                self.batch_anchors,
                self.nms_threshold,
                self.negatives_per_positive,
            )
            for image_scores, image_boxes, positive in zip(
                scores, boxes, torch.cat(labels, dim=1) < self.num_classes, strict=True
            )
        ]
        mask = torch.zeros_like(scores)
        for image_mask, indices in zip(mask, kept, strict=True):
            image_mask[indices] = 1
        weights = [
            weight * level_mask
            for weight, level_mask in zip(weights, mask.split(level_sizes, dim=1), strict=True)
        ]
        losses_cls, losses_bbox = multi_apply(
            self.loss_by_feat_single,
            cls_scores,
            bbox_preds,
            images_to_levels(boxes, level_sizes),
            labels,
            weights,
            box_targets,
            box_weights,
            avg_factor=avg_factor,
        )
        return {"loss_cls": losses_cls, "loss_bbox": losses_bbox}

    @torch.no_grad()
    def anchor_losses(
        self, cls_scores: list[Tensor], labels: list[Tensor], weights: list[Tensor]
    ) -> Tensor:
        """The classification loss of every anchor, [B, anchors of all levels]; ignored ones -1."""
        scores = []
        for logits, label, weight in zip(cls_scores, labels, weights, strict=True):
            rows = logits.permute(0, 2, 3, 1).reshape(-1, self.cls_out_channels)
            # .forward: hooks on the module must get the loss that trains, not this one.
            loss = self.loss_cls.forward(rows, label.reshape(-1), reduction_override="none")
            score = loss.reshape(len(rows), -1).sum(dim=1).reshape(label.shape)
            # A NaN loss counts as the hardest, so that mining cannot hide a divergence.
            scores.append(score.nan_to_num(nan=torch.inf).masked_fill(weight == 0, -1))
        return torch.cat(scores, dim=1)


def hardest_anchors(
    scores: Tensor,
    boxes: Tensor,
    positive: Tensor,
    count: int,
    nms_threshold: float,
    negatives_per_positive: int | None = None,
) -> Tensor:
    """Indices of one image's minibatch.

    Args:
        scores: [A], the anchors' losses; negative for an anchor that may not be picked.
        boxes: [A, 4].
        positive: [A], whether the anchor is assigned to an object.
        count: size of the minibatch, at most.
        nms_threshold: IoU above which the harder anchor suppresses the other.
        negatives_per_positive: None for the ``count`` hardest anchors, else the enforced ratio.

    Returns:
        [K], K <= count; hardest first (with a ratio: positives, then negatives).
    """
    eligible = scores >= 0
    if negatives_per_positive is None:
        return hardest_survivors(scores, boxes, eligible, count, nms_threshold)
    quota = max(1, count // (1 + negatives_per_positive))
    positives = hardest_survivors(scores, boxes, eligible & positive, quota, nms_threshold)
    wanted = min(count - len(positives), negatives_per_positive * max(len(positives), 1))
    negatives = hardest_survivors(scores, boxes, eligible & ~positive, wanted, nms_threshold)
    return torch.cat([positives, negatives])


def hardest_survivors(
    scores: Tensor, boxes: Tensor, eligible: Tensor, count: int, nms_threshold: float
) -> Tensor:
    """The ``count`` highest-scored eligible anchors that non-maximum suppression leaves, [K].

    Suppression goes from the highest score down, so the survivors among the top M do not depend on
    the rest. M grows until enough survive; the result is that of suppressing all anchors.
    """
    indices = eligible.nonzero().squeeze(1)
    order = indices[scores[indices].argsort(descending=True, stable=True)]
    considered = min(len(order), 8 * count)
    while True:
        top = order[:considered]
        # Ranks instead of scores: nms then keeps this order, also among equal scores.
        ranks = torch.arange(considered, 0, -1, dtype=torch.float32, device=scores.device)
        _, kept = nms(boxes[top].float(), ranks, nms_threshold)
        if len(kept) >= count or considered == len(order):
            return top[kept[:count]]
        considered = min(len(order), 4 * considered)
