"""mmdet's RetinaHead without the work that every iteration repeats.

Anchors depend on the shape of the batch alone, and an image's targets on its boxes alone: both
are worked out once by mmdet's own code and kept. The box loss, zero wherever there is no object,
is computed on the positive anchors only. Losses and gradients are mmdet's up to rounding.
"""

from dataclasses import dataclass
from typing import Any

import torch
from mmdet.models.dense_heads import RetinaHead
from mmdet.registry import MODELS
from mmdet.structures.bbox import get_box_tensor
from mmdet.utils import InstanceList
from mmengine.dist import all_reduce
from torch import Tensor


@dataclass(frozen=True)
class _ImageTargets:
    """What mmdet's assigner made of one image; only what is not background."""

    boxes: Tensor  # [G, 4], to tell whether the image was augmented differently
    classes: Tensor  # [G]
    positive: Tensor  # [P] anchors
    labels: Tensor  # [P]
    deltas: Tensor  # [P, 4]
    ignored: Tensor  # [I] anchors
    normaliser: int  # the image's part of avg_factor


@MODELS.register_module()
class CachedRetinaHead(RetinaHead):
    """RetinaHead that keeps the targets of images it has seen.

    An image whose boxes differ from those kept (random augmentation) gets its targets anew.

    Args:
        cache_images: how many images' targets to keep; 0 switches the cache off.
        reduce_normaliser: divide the losses by the mean of all processes' assigned anchors, so that
            several processes train as one with the whole batch would. mmdet divides each process's
            losses by its own, which is the default.
    """

    def __init__(
        self,
        *args: Any,
        cache_images: int = 20_000,
        reduce_normaliser: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._cache_images = cache_images
        self._reduce_normaliser = reduce_normaliser
        self._targets: dict[tuple[Any, ...], _ImageTargets] = {}
        self._anchors: dict[tuple[Any, ...], tuple[Any, Any]] = {}

    def get_anchors(
        self,
        featmap_sizes: list[tuple[int, int]],
        batch_img_metas: list[dict[str, Any]],
        device: torch.device | str = "cuda",
    ) -> tuple[list[list[Tensor]], list[list[Tensor]]]:
        """As mmdet's; the last batch shape's anchors are kept."""
        pads = tuple(tuple(meta["pad_shape"]) for meta in batch_img_metas)
        key = (tuple(map(tuple, featmap_sizes)), pads, str(device))
        if key not in self._anchors:
            self._anchors = {key: super().get_anchors(featmap_sizes, batch_img_metas, device)}
        return self._anchors[key]

    def get_targets(
        self,
        anchor_list: list[list[Tensor]],
        valid_flag_list: list[list[Tensor]],
        batch_gt_instances: InstanceList,
        batch_img_metas: list[dict[str, Any]],
        batch_gt_instances_ignore: InstanceList | None = None,
        unmap_outputs: bool = True,
        return_sampling_results: bool = False,
    ) -> tuple[Any, ...]:
        """As mmdet's: per level labels, label weights, box targets and weights; the normaliser."""
        ignore = batch_gt_instances_ignore or [None] * len(batch_img_metas)
        unusual = not unmap_outputs or return_sampling_results or not self._cache_images
        if unusual or any(found is not None and len(found) for found in ignore):
            found = super().get_targets(
                anchor_list,
                valid_flag_list,
                batch_gt_instances,
                batch_img_metas,
                batch_gt_instances_ignore,
                unmap_outputs,
                return_sampling_results,
            )
            return (*found[:4], self._over_processes(found[4]), *found[5:])
        images = [
            self._image_targets(*image)
            for image in zip(
                anchor_list, valid_flag_list, batch_gt_instances, batch_img_metas, strict=True
            )
        ]
        per_level = [len(level) for level in anchor_list[0]]
        batch, total = len(images), sum(per_level)
        first = anchor_list[0][0]
        labels = first.new_full((batch * total,), self.num_classes, dtype=torch.long)
        label_weights = first.new_ones(batch * total)
        deltas = first.new_zeros(batch * total, 4)
        delta_weights = first.new_zeros(batch * total, 4)
        positive = torch.cat([image.positive + i * total for i, image in enumerate(images)])
        ignored = torch.cat([image.ignored + i * total for i, image in enumerate(images)])
        labels[positive] = torch.cat([image.labels for image in images])
        deltas[positive] = torch.cat([image.deltas for image in images])
        delta_weights[positive] = 1.0
        label_weights[ignored] = 0.0
        levels = [
            list(tensor.view(batch, total, *tensor.shape[1:]).split(per_level, 1))
            for tensor in (labels, label_weights, deltas, delta_weights)
        ]
        return (*levels, self._over_processes(sum(image.normaliser for image in images)))

    def _over_processes(self, normaliser: float) -> float:
        """The mean over the trial's processes, where that was asked for and while it trains."""
        if not (self._reduce_normaliser and self.training):
            return normaliser
        mean = torch.tensor(float(normaliser))
        all_reduce(mean, "mean")
        return float(mean)

    def _image_targets(
        self, anchors: list[Tensor], flags: list[Tensor], objects: Any, meta: dict[str, Any]
    ) -> _ImageTargets:
        boxes = get_box_tensor(objects.bboxes)
        shape = (tuple(meta["img_shape"]), tuple(meta["pad_shape"]))
        key = (meta.get("img_path", meta.get("img_id")), *shape, str(boxes.device))
        kept = self._targets.get(key)
        if (
            kept is not None
            and torch.equal(kept.boxes, boxes)
            and torch.equal(kept.classes, objects.labels)
        ):
            return kept
        labels, weights, deltas, _, _, _, sampled = self._get_targets_single(
            torch.cat([get_box_tensor(level) for level in anchors]), torch.cat(flags), objects, meta
        )
        positive = torch.nonzero(labels < self.num_classes).squeeze(1)
        made = _ImageTargets(
            boxes=boxes.clone(),
            classes=objects.labels.clone(),
            positive=positive,
            labels=labels[positive],
            deltas=deltas[positive],
            ignored=torch.nonzero(weights == 0).squeeze(1),
            normaliser=sampled.avg_factor,
        )
        if key in self._targets or len(self._targets) < self._cache_images:
            self._targets[key] = made
        return made

    def loss_by_feat_single(
        self,
        cls_score: Tensor,
        bbox_pred: Tensor,
        anchors: Tensor,
        labels: Tensor,
        label_weights: Tensor,
        bbox_targets: Tensor,
        bbox_weights: Tensor,
        avg_factor: float,
    ) -> tuple[Tensor, Tensor]:
        """As mmdet's, with the box loss on the anchors that have an object."""
        labels = labels.reshape(-1)
        cls_score = cls_score.permute(0, 2, 3, 1).reshape(-1, self.cls_out_channels)
        loss_cls = self.loss_cls(
            cls_score, labels, label_weights.reshape(-1), avg_factor=avg_factor
        )
        size = self.bbox_coder.encode_size
        bbox_pred = bbox_pred.permute(0, 2, 3, 1).reshape(-1, size)
        rows = torch.nonzero(labels < self.num_classes).squeeze(1)
        predicted = bbox_pred[rows]
        if self.reg_decoded_bbox:
            predicted = get_box_tensor(
                self.bbox_coder.decode(anchors.reshape(-1, anchors.size(-1))[rows], predicted)
            )
        loss_bbox = self.loss_bbox(
            predicted,
            bbox_targets.reshape(-1, bbox_targets.size(-1))[rows],
            bbox_weights.reshape(-1, bbox_weights.size(-1))[rows],
            avg_factor=avg_factor,
        )
        return loss_cls, loss_bbox
