"""The loss of every iteration, and the parts of it from positives and from negatives."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from mmdet.models.losses import CrossEntropyLoss, FocalLoss
from mmengine.dist import all_reduce, get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor, nn

from ablations.losses.modules import PairwiseLoss
from ablations.losses.softmax import SoftmaxLoss
from ablations.store.arrays import write_arrays
from ablations.store.record import CURVE, CURVE_COLUMNS, METRICS
from ablations.training.classification import Seen, seen, watch
from ablations.training.distributed import bare_model
from ablations.training.heads import LOSSES, Head, last_head

_SUMS = (PairwiseLoss, SoftmaxLoss, FocalLoss, CrossEntropyLoss)
# Kinds of RuntimeError. Before torch 2.8 the second is a plain one.
_OF_THE_DEVICE = (
    torch.OutOfMemoryError,
    getattr(torch, "AcceleratorError", torch.OutOfMemoryError),
)
_BOX_LOSSES = ("loss_bbox", "loss_xy", "loss_wh")


class Diverged(RuntimeError):  # noqa: N818 - an outcome, not a mistake
    """The loss is no longer finite."""


class LossShare:
    """Computes how much of a classification loss comes from the positive windows.

    A window is an anchor-class pair, or a row of a softmax. It is positive if the class is the
    anchor's assigned one. The loss is computed once more, unreduced, on the few rows that have a
    positive. That is correct, and has no side effects, for a loss that is a sum over windows: this
    project's, mmdet's FocalLoss and CrossEntropyLoss, SSD's, and any with an attribute
    ``sums_over_windows = True``. For other losses (in GHM-C a window's loss depends on the other
    windows) the result is NaN.
    """

    def __init__(self, loss: nn.Module | None = None) -> None:
        self._loss = loss
        self._sums = isinstance(loss, _SUMS) or getattr(loss, "sums_over_windows", False)
        self.start()
        if loss is not None and self._sums:
            loss.register_forward_hook(self._watch, with_kwargs=True)

    @classmethod
    def of_ssd(cls, head: Head) -> "LossShare":
        """That of a head of SSD, whose cross entropy is no module."""
        share = cls()
        share._sums = share._splittable = True
        watch(head, "loss_cls", share._add)
        return share

    def start(self) -> None:
        """Begin a new iteration."""
        self._calls: list[Seen] = []  # a pyramid level each, with its positive rows alone
        self._splittable = self._sums

    @torch.no_grad()
    def _watch(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], _out: Any
    ) -> None:
        if not module.training or not self._splittable:
            return
        call = seen(module, args, kwargs)
        if call is None:
            self._splittable = False
        else:
            self._add(call)

    @torch.no_grad()
    def _add(self, call: Seen) -> None:
        rows = call.positive_rows()
        logits, weight = call.logits.detach()[rows], call.weight
        weight = logits.new_ones(len(rows)) if weight is None else weight[rows]
        self._calls.append(replace(call, logits=logits, labels=call.labels[rows], weight=weight))

    @torch.no_grad()
    def read(self) -> tuple[Tensor | float, int]:
        """The positives' part of the loss (NaN if it cannot be separated) and their number."""
        if not self._splittable or not self._calls:
            return float("nan"), 0
        counts = [len(call.labels) for call in self._calls]
        if not sum(counts):
            return 0.0, 0
        try:
            chosen = self._of_positives().split(counts)
        except _OF_THE_DEVICE:  # such as no memory left: the trial has failed
            raise
        except (TypeError, ValueError, RuntimeError, IndexError):
            self._splittable = False
            return float("nan"), sum(counts)
        parts = [part.sum() / call.factor for part, call in zip(chosen, self._calls, strict=True)]
        return torch.stack(parts).sum(), sum(counts)

    def _of_positives(self) -> Tensor:
        """The loss of the positive window of each row, unreduced."""
        logits, labels, weight = (
            torch.cat([getattr(call, name) for call in self._calls])
            for name in ("logits", "labels", "weight")
        )
        if self._loss is None:
            return F.cross_entropy(logits, labels, reduction="none") * weight
        if self._calls[0].in_pairs:
            logits, labels = logits.squeeze(1), torch.ones_like(logits.squeeze(1))
        found: Tensor = self._loss.forward(logits, labels, weight, reduction_override="none")
        return found if found.dim() == 1 else found.gather(1, labels[:, None]).squeeze(1)


def shares(model: nn.Module) -> list[LossShare]:
    """One for each classification loss of the head whose classes the detector puts out."""
    head = last_head(model)
    if head is None:
        return []
    if head.computes_softmax:
        return [LossShare.of_ssd(head)]
    return [LossShare(loss) for loss in head.losses.values()]


def _sum_of(outputs: dict[str, Tensor], names: Sequence[str]) -> Tensor | float:
    found = [outputs[name] for name in names if name in outputs]
    return sum(found[1:], found[0]) if found else float("nan")


def _over_processes(*values: Tensor | float) -> tuple[Tensor | float, ...]:
    """Combine the processes' values: means of the losses, and the sum of the last value."""
    processes = get_world_size()
    if processes == 1:
        return values
    device = next((value.device for value in values if isinstance(value, Tensor)), None)
    numbers = [torch.as_tensor(value, dtype=torch.float64, device=device) for value in values]
    means = torch.stack([number.detach() for number in numbers])
    all_reduce(means, "mean")
    return (*means[:-1].unbind(), means[-1] * processes)


@HOOKS.register_module()
class LossCurveHook(Hook):
    """Keep ``CURVE_COLUMNS`` of every iteration and the AP of every validation.

    The visualizer gets both: the mean of every ``flush`` iterations as ``train/<column>``, and the
    metrics as ``val/<metric>``. A resumed trial gives it the whole history again. A trial whose
    loss is no longer finite is stopped.

    Args:
        flush: iterations between reading the values; reading waits for the device.
    """

    priority = "LOW"

    def __init__(self, flush: int = 10) -> None:
        self.flush = flush
        self.rows: list[list[float]] = []
        self.history: list[dict[str, float]] = []
        self._waiting: list[tuple[Tensor | float, ...]] = []
        self._shares: list[LossShare] = []
        self._shown = 0  # rows that the visualizer has

    def before_train(self, runner: Runner) -> None:
        """Attach to the classification losses of the model's last head, if it has any."""
        self._shares = shares(bare_model(runner))
        for row in self.history:  # in the order of a trial that was never interrupted
            self._show_rows(runner, int(row["iteration"]))
            self._show_metrics(runner, row)
        self._show_rows(runner, len(self.rows))

    def before_train_iter(self, *_args: Any, **_kwargs: Any) -> None:
        """Begin a new iteration."""
        for share in self._shares:
            share.start()

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: dict[str, Tensor] | None = None,
    ) -> None:
        """Keep the iteration's values.

        Raises:
            Diverged: the loss was NaN or infinite.
        """
        outputs = outputs or {}
        nan = float("nan")
        read = [share.read() for share in self._shares]
        positive = sum(part for part, _ in read) if read else nan
        count = max((number for _, number in read), default=0)
        lr = runner.optim_wrapper.get_lr()["lr"][0]
        loss_cls, loss_bbox = (_sum_of(outputs, names) for names in (LOSSES, _BOX_LOSSES))
        loss = outputs.get("loss", nan)
        *losses, total = _over_processes(loss, loss_cls, loss_bbox, positive, count)
        noted = (runner.iter + 1, lr, *losses, nan, total)
        self._waiting.append(
            tuple(value.detach() if isinstance(value, Tensor) else value for value in noted)
        )
        if (runner.iter + 1) % self.flush == 0 or self.is_last_train_iter(runner):
            self.take_waiting()
            self._show_rows(runner, len(self.rows))

    def _show_rows(self, runner: Runner, last: int) -> None:
        while self._shown < last:
            end = min(self._shown + self.flush, last)
            if end % self.flush and end < runner.max_iters:
                break  # this group of iterations is not complete yet
            means = np.mean(self.rows[self._shown : end], axis=0)
            named = dict(zip(CURVE_COLUMNS[1:], means[1:], strict=True))
            finite = {f"train/{name}": v for name, v in named.items() if np.isfinite(v)}
            runner.visualizer.add_scalars(finite, step=end)
            self._shown = end

    def _show_metrics(self, runner: Runner, row: dict[str, float]) -> None:
        found = {f"val/{name}": row[name] for name in METRICS if np.isfinite(row.get(name, np.nan))}
        runner.visualizer.add_scalars(found, step=int(row["iteration"]))

    def take_waiting(self) -> None:
        """Move the kept values to ``rows``.

        Raises:
            Diverged: a loss was NaN or infinite; the row says at which iteration.
        """
        for row in self._waiting:
            values = [float(value) for value in row]
            values[6] = values[3] - values[5]  # negative = classification - positive
            self.rows.append(values)
            if not np.isfinite(values[2]):
                self._waiting.clear()
                raise Diverged(f"the loss was {values[2]} at iteration {int(values[0])}")
        self._waiting.clear()

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Store the curve in the checkpoint, so that both end at the same iteration."""
        self.take_waiting()
        checkpoint["loss_curve"] = torch.tensor(self.rows, dtype=torch.float64)
        checkpoint["metric_history"] = self.history

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Continue the checkpoint's curve."""
        if "loss_curve" in checkpoint:
            self.rows = checkpoint["loss_curve"].tolist()
            self.history = checkpoint["metric_history"]

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Keep the metrics of this iteration, without those of single classes."""
        kept = {key.removeprefix("coco/"): float(value) for key, value in (metrics or {}).items()}
        found = {key: value for key, value in kept.items() if key in METRICS}
        self.history.append({"iteration": runner.iter, **found})
        self._show_metrics(runner, self.history[-1])

    def after_train(self, runner: Runner) -> None:
        """Write ``curve.npz``."""
        if is_main_process():
            self.write(Path(runner.work_dir))

    def write(self, folder: Path) -> None:
        """Write ``curve.npz`` into ``folder``."""
        table = np.asarray(self.rows, np.float64).reshape(-1, len(CURVE_COLUMNS))
        write_arrays(folder / CURVE, **dict(zip(CURVE_COLUMNS, table.T, strict=True)))
