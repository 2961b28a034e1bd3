"""Sample the logits of positive and negative windows, for the loss CDFs (Figure 4)."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmdet.models.dense_heads import RetinaHead
from mmdet.structures.bbox import get_box_tensor
from mmdet.utils import InstanceList
from mmengine.dist import all_reduce, is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor

from ablations.sweep.record import LOGIT_BINS, LOGIT_LIMIT, PROBABILITIES
from ablations.training.arrays import write_arrays
from ablations.training.distributed import bare_model


@HOOKS.register_module()
class ProbabilityHook(Hook):
    """Histogram the logits of the last validation (``record.LOGIT_BINS``).

    A window is an anchor-class pair: positive if the class is the anchor's assigned one, negative
    otherwise; ignored anchors are left out. The anchors are assigned as in training. It reads the
    head's outputs as they pass, so it costs no forward pass of its own. Every image gives the same
    share of its windows, drawn without replacement by a generator of the hook's own.

    Args:
        positives: windows to sample at most (the paper: about 1e5).
        negatives: windows to sample at most (the paper: about 1e7).
        seed: of the draws.
    """

    def __init__(
        self, positives: int = 100_000, negatives: int = 10_000_000, seed: int = 0
    ) -> None:
        self.limits = {"positive": positives, "negative": negatives}
        self.seed = seed
        self._scores: list[Tensor] | None = None
        self._handle: Any = None

    def before_val_epoch(self, runner: Runner) -> None:
        """Listen to the head, if this validation is the last and there is one to listen to."""
        model = bare_model(runner)
        head: Any = getattr(model, "bbox_head", None)
        last = runner.train_loop is None or runner.iter >= runner.max_iters
        if not last or not isinstance(head, RetinaHead):  # others assign in ways of their own
            return
        self._head = head
        self._images = len(runner.val_dataloader.dataset)
        self._generator = np.random.default_rng(self.seed)
        self._counts = {name: np.zeros(LOGIT_BINS, np.int64) for name in self.limits}
        self._totals = dict.fromkeys(self.limits, 0)
        self._handle = head.register_forward_hook(self._keep_scores)

    def _keep_scores(self, _module: Any, _inputs: Any, outputs: tuple[list[Tensor], Any]) -> None:
        self._scores = list(outputs[0])

    @torch.no_grad()
    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Sample the batch's windows."""
        if self._handle is None or self._scores is None:
            return
        scores, self._scores = self._scores, None
        head = self._head
        samples = data_batch["data_samples"]
        objects = [_as_seen(sample, scores[0].device) for sample in samples]
        metas = [sample.metainfo for sample in outputs]
        anchors, flags = head.get_anchors(
            [level.shape[-2:] for level in scores], metas, device=scores[0].device
        )
        labels, weights, *_ = head.get_targets(anchors, flags, objects, metas)
        labels, weights = torch.cat(labels, 1), torch.cat(weights, 1)
        classes = head.cls_out_channels
        logits = torch.cat(
            [level.permute(0, 2, 3, 1).reshape(len(metas), -1, classes) for level in scores], 1
        )
        for image in range(len(metas)):
            self._sample(logits[image], labels[image], weights[image])

    def _sample(self, logits: Tensor, labels: Tensor, weights: Tensor) -> None:
        """One image: logits [A, C], labels [A], weights [A]."""
        positive = torch.zeros_like(logits, dtype=torch.bool)
        rows = torch.nonzero((labels < logits.shape[1]) & (weights > 0)).squeeze(1)
        positive[rows, labels[rows]] = True
        counted = (weights > 0)[:, None].expand_as(positive)
        kinds = {"positive": logits[positive], "negative": logits[counted & ~positive]}
        for name, values in kinds.items():
            found = values.float().cpu().numpy()
            self._totals[name] += len(found)
            # The limit's equal share of every image, as if all images had as many windows.
            share = min(len(found), -(-self.limits[name] // self._images))
            if name == "positive":  # few and uneven: the limit is kept by the sum, not by image
                share = min(len(found), self.limits[name] - int(self._counts[name].sum()))
            if share < len(found):
                found = self._generator.choice(found, share, replace=False, shuffle=False)
            bins = (found + LOGIT_LIMIT) * (LOGIT_BINS / (2 * LOGIT_LIMIT))
            bins = np.clip(np.nan_to_num(bins), 0, LOGIT_BINS - 1).astype(np.int64)
            self._counts[name] += np.bincount(bins, minlength=LOGIT_BINS)

    def after_val_epoch(self, runner: Runner, metrics: Any = None) -> None:
        """Write ``probabilities.npz``."""
        if self._handle is None:
            return
        self._handle.remove()
        self._handle = None
        arrays: dict[str, Any] = {
            name: torch.from_numpy(counts) for name, counts in self._counts.items()
        }
        arrays |= {f"{name}_total": torch.tensor(total) for name, total in self._totals.items()}
        for array in arrays.values():
            all_reduce(array)
        if is_main_process():
            path = Path(runner.work_dir) / PROBABILITIES
            write_arrays(path, **{name: array.numpy() for name, array in arrays.items()})


def _as_seen(sample: Any, device: torch.device) -> InstanceList:
    """An image's objects in the coordinates of the network's input.

    mmdet's test pipelines resize before they load the annotations, so boxes come unscaled.
    """
    objects = sample.gt_instances.to(device)
    boxes = get_box_tensor(objects.bboxes)
    scale = boxes.new_tensor(sample.metainfo["scale_factor"]).repeat(2)
    objects = objects.new()
    objects.bboxes = boxes * scale
    objects.labels = sample.gt_instances.labels.to(device)
    return objects
