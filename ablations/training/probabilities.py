"""Sample the logits of positive and negative windows, for the loss CDFs (Figure 4)."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmdet.models.dense_heads import RetinaHead
from mmdet.structures.bbox import get_box_tensor
from mmdet.utils import InstanceList
from mmengine.dist import all_gather, all_reduce, get_rank, is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from numpy.typing import NDArray
from torch import Tensor

from ablations.store.arrays import write_arrays
from ablations.store.logit_histogram import LOGIT_BINS, count_logits
from ablations.store.record import PROBABILITIES
from ablations.training.distributed import bare_model


@HOOKS.register_module()
class ProbabilityHook(Hook):
    """Write a histogram of the logits of the last validation (``store.logit_histogram``).

    A window is an anchor-class pair: positive if the class is the anchor's assigned one, negative
    otherwise; ignored anchors are left out. The anchors are assigned as in training. The hook reads
    the head's outputs during the validation, so it needs no forward pass of its own.

    Windows are drawn without replacement, by a random generator of the hook's own. Positives are
    few, and images have different numbers of them: all are kept, and at the end the sample is drawn
    uniformly from all images and processes. Negatives are too many to keep: every image gives the
    same number, or all it has if that is less.

    Args:
        positives: windows to sample at most (the paper: about 1e5).
        negatives: windows to sample, rounded up to the same number an image (the paper: 1e7).
        seed: of the draws.
    """

    def __init__(
        self, positives: int = 100_000, negatives: int = 10_000_000, seed: int = 0
    ) -> None:
        self.positives = positives
        self.negatives = negatives
        self.seed = seed
        self._scores: list[Tensor] | None = None
        self._handle: Any = None

    def before_val_epoch(self, runner: Runner) -> None:
        """Register a hook on RetinaNet's head, if this is the last validation."""
        model = bare_model(runner)
        head: Any = getattr(model, "bbox_head", None)
        last = runner.train_loop is None or runner.iter >= runner.max_iters
        if not last:
            return
        # Others assign differently.
        if not isinstance(head, RetinaHead) or not head.use_sigmoid_cls:
            runner.logger.info(
                "no loss CDFs: logits are sampled of a RetinaHead with sigmoids only"
            )
            return
        self._head = head
        self._sample = WindowSample(
            self.positives, self.negatives, len(runner.val_dataloader.dataset), self.seed
        )
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
            self._sample.add_image(*_windows(logits[image], labels[image], weights[image]))

    def after_val_epoch(self, runner: Runner, metrics: Any = None) -> None:
        """Write ``probabilities.npz``."""
        if self._handle is None:
            return
        self._handle.remove()
        self._handle = None
        arrays = self._sample.gather()
        if is_main_process():
            write_arrays(Path(runner.work_dir) / PROBABILITIES, **arrays)


class WindowSample:
    """A bounded sample of windows from all images of a validation, in all processes.

    Args:
        positives: how many there are to be at most.
        negatives: how many there are to be, over all images.
        images: in the validation set.
        seed: of the draws.
    """

    def __init__(self, positives: int, negatives: int, images: int, seed: int) -> None:
        self.positives = positives
        self.negatives_an_image = -(-negatives // images)
        self.seed = seed
        self._generator = np.random.default_rng(seed)
        self._positives: list[NDArray[np.float32]] = []
        self._negatives = np.zeros(LOGIT_BINS, np.int64)
        self._negative_total = 0

    def add_image(self, positive: NDArray[np.float32], negative: NDArray[np.float32]) -> None:
        """Add one image's windows: logits [P] and [N]."""
        self._positives.append(positive)
        self._negatives += count_logits(self._draw(negative, self.negatives_an_image))
        self._negative_total += len(negative)

    def gather(self) -> dict[str, NDArray[np.int64]]:
        """The arrays of ``probabilities.npz``, over all processes; all of them must call this."""
        positive = np.concatenate([np.empty(0, np.float32), *self._positives])
        found = np.array([int(n) for n in all_gather(torch.tensor(len(positive)))])
        # How many windows of one draw over all processes come from each process.
        drawn = np.random.default_rng(self.seed).multivariate_hypergeometric(
            found, min(self.positives, found.sum()), method="marginals"
        )
        arrays = {
            "positive": count_logits(self._draw(positive, int(drawn[get_rank()]))),
            "negative": self._negatives,
            "positive_total": np.array(len(positive)),
            "negative_total": np.array(self._negative_total),
        }
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        for tensor in tensors.values():
            all_reduce(tensor)
        return {name: tensor.numpy() for name, tensor in tensors.items()}

    def _draw(self, found: NDArray[np.float32], number: int) -> NDArray[np.float32]:
        if number >= len(found):
            return found
        return self._generator.choice(found, number, replace=False, shuffle=False)


def _windows(
    logits: Tensor, labels: Tensor, weights: Tensor
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The positive and negative logits of one image: logits [A, C], labels [A], weights [A]."""
    positive = torch.zeros_like(logits, dtype=torch.bool)
    rows = torch.nonzero((labels < logits.shape[1]) & (weights > 0)).squeeze(1)
    positive[rows, labels[rows]] = True
    counted = (weights > 0)[:, None].expand_as(positive)
    kinds = logits[positive], logits[counted & ~positive]
    found = [values.float().cpu().numpy() for values in kinds]
    return found[0], found[1]


def _as_seen(sample: Any, device: torch.device) -> InstanceList:
    """An image's objects in the coordinates of the network's input.

    mmdet's test pipelines load the annotations after resizing, so the boxes are not scaled.
    """
    objects = sample.gt_instances.to(device)
    boxes = get_box_tensor(objects.bboxes)
    scale = boxes.new_tensor(sample.metainfo["scale_factor"]).repeat(2)
    objects = objects.new()
    objects.bboxes = boxes * scale
    objects.labels = sample.gt_instances.labels.to(device)
    return objects
