"""mmdet's anchor assignment, for all images of a batch in a few operations.

mmdet assigns image by image, about forty small operations each. For RetinaNet's assigner this
module makes the same comparisons for a whole batch, with the same results.
"""

from collections.abc import Sequence
from typing import Any

import torch
from mmdet.models.task_modules import BboxOverlaps2D, MaxIoUAssigner, PseudoSampler
from mmdet.structures.bbox import bbox_overlaps
from torch import Tensor

LIMIT = 20_000_000  # overlaps at once; larger batches are left to mmdet


def is_plain(assigner: Any, sampler: Any) -> bool:
    """Whether ``assign_together`` gives the results of this assigner and sampler."""
    return (
        type(assigner) is MaxIoUAssigner
        and type(sampler) is PseudoSampler
        and type(assigner.iou_calculator) is BboxOverlaps2D
        and (assigner.iou_calculator.scale, assigner.iou_calculator.dtype) == (1.0, None)
        and isinstance(assigner.neg_iou_thr, float)
        and assigner.perm_repeat_gt_cfg is None
    )


def assign_together(assigner: MaxIoUAssigner, anchors: Tensor, boxes: Sequence[Tensor]) -> Tensor:
    """The object that ``MaxIoUAssigner`` assigns to every anchor.

    Args:
        assigner: one for which ``is_plain`` holds.
        anchors: [A, 4], the same for all images.
        boxes: [G, 4] of each image; G may be 0.

    Returns:
        int64 [N, A]: 1 + the object's index, 0 background, -1 ignored.
    """
    images, most = len(boxes), max(map(len, boxes))
    if most == 0:
        return torch.zeros(images, len(anchors), dtype=torch.long, device=anchors.device)
    padded = anchors.new_zeros(images, most, 4)
    real = torch.zeros(images, most, dtype=torch.bool, device=anchors.device)
    for row, found in enumerate(boxes):
        padded[row, : len(found)] = found
        real[row, : len(found)] = True
    overlaps = bbox_overlaps(padded, anchors.expand(images, -1, -1))  # [N, G, A]
    overlaps[~real] = -1.0
    best, which = overlaps.max(1)
    assigned = torch.full_like(which, -1)
    assigned[best < assigner.neg_iou_thr] = 0  # also where there is no object at all
    positive = best >= assigner.pos_iou_thr
    assigned[positive] = which[positive] + 1
    if assigner.match_low_quality:
        top, at = overlaps.max(2)
        wanted = real & (top >= assigner.min_pos_iou)
        for number in range(most):  # in order: a later object takes an anchor from an earlier one
            if assigner.gt_max_assign_all:
                chosen = overlaps[:, number] == top[:, number, None]
                assigned[chosen & wanted[:, number, None]] = number + 1
            else:
                rows = torch.nonzero(wanted[:, number]).squeeze(1)
                assigned[rows, at[rows, number]] = number + 1
    return assigned
