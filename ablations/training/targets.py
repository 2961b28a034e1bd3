"""mmdet's RetinaHead without the work that every iteration repeats.

Anchors depend only on the shape of the batch, and an image's targets only on its boxes. Both are
computed once and kept; the targets of all new images of a batch are computed together. The box loss
is zero without an object, so it is computed on the positive anchors only. Losses and gradients
equal mmdet's up to rounding.
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

from ablations.training.assignment import LIMIT, assign_together, is_plain


@dataclass(frozen=True)
class _ImageTargets:
    """One image's targets from mmdet's assigner, without the background anchors."""

    boxes: Tensor  # [G, 4], to see whether the image was augmented differently
    classes: Tensor  # [G]
    positive: Tensor  # [P] anchors
    labels: Tensor  # [P]
    deltas: Tensor  # [P, 4]
    ignored: Tensor  # [I] anchors
    normaliser: int  # the image's part of avg_factor


@MODELS.register_module()
class CachedRetinaHead(RetinaHead):
    """RetinaHead that keeps the targets of images it has seen.

    If an image's boxes differ from those kept (random augmentation), its targets are computed
    again.

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
        images = self._images(anchor_list, valid_flag_list, batch_gt_instances, batch_img_metas)
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
        """In training with ``reduce_normaliser``: the mean over the trial's processes."""
        if not (self._reduce_normaliser and self.training):
            return normaliser
        mean = torch.tensor(float(normaliser))
        all_reduce(mean, "mean")
        return float(mean)

    def _images(
        self,
        anchors: list[list[Tensor]],
        flags: list[list[Tensor]],
        objects: InstanceList,
        metas: list[dict[str, Any]],
    ) -> list[_ImageTargets]:
        """The targets of each image of a batch: those kept, or newly computed ones."""
        keys = [
            (
                meta.get("img_path", meta.get("img_id")),
                tuple(meta["img_shape"]),
                tuple(meta["pad_shape"]),
                str(anchors[0][0].device),
            )
            for meta in metas
        ]
        images = [self._kept(key, found) for key, found in zip(keys, objects, strict=True)]
        new = [number for number, image in enumerate(images) if image is None]
        if not new:
            return images  # type: ignore[return-value]
        flat = torch.cat([get_box_tensor(level) for level in anchors[0]])
        chosen = [objects[number] for number in new]
        if self._is_plain([flags[number] for number in new], chosen, len(flat)):
            made = self._together(flat, chosen)
        else:
            made = [
                self._alone(flat, torch.cat(flags[number]), objects[number], metas[number])
                for number in new
            ]
        for number, image in zip(new, made, strict=True):
            images[number] = image
            if keys[number] in self._targets or len(self._targets) < self._cache_images:
                self._targets[keys[number]] = image
        return images  # type: ignore[return-value]

    def _kept(self, key: tuple[Any, ...], objects: Any) -> _ImageTargets | None:
        kept = self._targets.get(key)
        same = (
            kept is not None
            and torch.equal(kept.boxes, get_box_tensor(objects.bboxes))
            and torch.equal(kept.classes, objects.labels)
        )
        return kept if same else None

    def _is_plain(self, flags: list[list[Tensor]], objects: InstanceList, anchors: int) -> bool:
        """Whether all anchors count and the images' targets can be computed together."""
        boxes = max(len(found.bboxes) for found in objects)
        return (
            is_plain(self.assigner, self.sampler)
            and self.train_cfg["allowed_border"] < 0
            and self.train_cfg["pos_weight"] <= 0
            and len(objects) * boxes * anchors <= LIMIT
            and all(bool(level.all()) for image in flags for level in image)
        )

    def _together(self, anchors: Tensor, objects: InstanceList) -> list[_ImageTargets]:
        """The targets of several images, computed together."""
        boxes = [get_box_tensor(found.bboxes) for found in objects]
        classes = [found.labels for found in objects]
        assigned = assign_together(self.assigner, anchors, boxes)
        image, positive = torch.nonzero(assigned > 0, as_tuple=True)
        before = torch.tensor([0, *map(len, boxes[:-1])], device=image.device).cumsum(0)
        owner = before[image] + assigned[image, positive] - 1  # among all objects of the batch
        goal, labels = torch.cat(boxes)[owner], torch.cat(classes)[owner]
        if not self.reg_decoded_bbox:
            goal = self.bbox_coder.encode(anchors[positive], goal)
        counts, rest = (assigned > 0).sum(1).tolist(), (assigned < 0).sum(1).tolist()
        ignored = torch.nonzero(assigned < 0, as_tuple=True)[1]
        by_image = zip(
            boxes,
            classes,
            *(part.split(counts) for part in (positive, labels, goal)),
            ignored.split(rest),
            strict=True,
        )
        return [
            _ImageTargets(own.clone(), kinds.clone(), at, label, delta, out, max(len(at), 1))
            for own, kinds, at, label, delta, out in by_image
        ]

    def _alone(
        self, anchors: Tensor, flags: Tensor, objects: Any, meta: dict[str, Any]
    ) -> _ImageTargets:
        """The targets of one image, from mmdet's own code."""
        labels, weights, deltas, _, _, _, sampled = self._get_targets_single(
            anchors, flags, objects, meta
        )
        positive = torch.nonzero(labels < self.num_classes).squeeze(1)
        return _ImageTargets(
            boxes=get_box_tensor(objects.bboxes).clone(),
            classes=objects.labels.clone(),
            positive=positive,
            labels=labels[positive],
            deltas=deltas[positive],
            ignored=torch.nonzero(weights == 0).squeeze(1),
            normaliser=sampled.avg_factor,
        )

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
        """As mmdet's, with the box loss on positive anchors only."""
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
