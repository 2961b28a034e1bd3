"""The loss of every iteration, and the parts of it from positives and from negatives."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmdet.models.losses import CrossEntropyLoss, FocalLoss
from mmengine.dist import all_reduce, get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor, nn

from ablations.losses.modules import PairwiseLoss
from ablations.store.arrays import write_arrays
from ablations.store.record import CURVE, CURVE_COLUMNS, METRICS
from ablations.training.distributed import bare_model

_SUMS = (PairwiseLoss, FocalLoss, CrossEntropyLoss)
# Kinds of RuntimeError. Before torch 2.8 the second is a plain one.
_OF_THE_DEVICE = (
    torch.OutOfMemoryError,
    getattr(torch, "AcceleratorError", torch.OutOfMemoryError),
)
_ARGUMENTS = ("pred", "target", "weight", "avg_factor")


class Diverged(RuntimeError):  # noqa: N818 - an outcome, not a mistake
    """The loss is no longer finite."""


class LossShare:
    """Computes how much of a classification loss comes from the positive windows.

    A window is an anchor-class pair. It is positive if the class is the anchor's assigned one. The
    loss is computed once more, unreduced, on the few rows that have a positive. That is correct,
    and has no side effects, for a loss that is a sum over windows: this project's, mmdet's
    FocalLoss and CrossEntropyLoss, and any with an attribute ``sums_over_windows = True``. For
    other losses (in GHM-C a window's loss depends on the other windows) the result is NaN.
    """

    def __init__(self, loss: nn.Module) -> None:
        self._loss = loss
        self._sums = isinstance(loss, _SUMS) or getattr(loss, "sums_over_windows", False)
        self.start()
        if self._sums:
            loss.register_forward_hook(self._watch, with_kwargs=True)

    def start(self) -> None:
        """Begin a new iteration."""
        self._rows: list[tuple[Tensor, Tensor, Tensor]] = []  # one call (pyramid level) each
        self._splittable = self._sums

    @torch.no_grad()
    def _watch(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], _out: Any
    ) -> None:
        if not module.training or not self._splittable:
            return
        values = dict(zip(_ARGUMENTS, args, strict=False)) | kwargs
        pred, target, weight = values["pred"], values["target"], values.get("weight")
        if target.dim() != 1 or pred.dim() != 2 or target.is_floating_point():
            self._splittable = False
            return
        self._factor = values.get("avg_factor") or target.numel()
        rows = torch.nonzero(target < pred.shape[1]).squeeze(1)
        weight = pred.new_ones(len(rows)) if weight is None else weight[rows]
        self._rows.append((pred[rows], target[rows], weight))

    @torch.no_grad()
    def read(self) -> tuple[Tensor | float, int]:
        """The positives' part of the loss (NaN if it cannot be separated) and their number."""
        if not self._splittable or not self._rows:
            return float("nan"), 0
        pred, target, weight = (torch.cat(parts) for parts in zip(*self._rows, strict=True))
        if not len(target):
            return 0.0, 0
        try:
            elements = self._loss.forward(pred, target, weight, reduction_override="none")
            chosen = elements.gather(1, target[:, None])
        except _OF_THE_DEVICE:  # such as no memory left: the trial has failed
            raise
        except (TypeError, ValueError, RuntimeError, IndexError):
            self._splittable = False
            return float("nan"), len(target)
        return chosen.sum() / self._factor, len(target)


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
        self._share: LossShare | None = None
        self._shown = 0  # rows that the visualizer has

    def before_train(self, runner: Runner) -> None:
        """Attach to the model's ``bbox_head.loss_cls``, if it has one."""
        model = bare_model(runner)
        loss = getattr(getattr(model, "bbox_head", None), "loss_cls", None)
        self._share = LossShare(loss) if isinstance(loss, nn.Module) else None
        for row in self.history:  # in the order of a trial that was never interrupted
            self._show_rows(runner, int(row["iteration"]))
            self._show_metrics(runner, row)
        self._show_rows(runner, len(self.rows))

    def before_train_iter(self, *_args: Any, **_kwargs: Any) -> None:
        """Begin a new iteration."""
        if self._share is not None:
            self._share.start()

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
        positive, count = self._share.read() if self._share is not None else (nan, 0)
        lr = runner.optim_wrapper.get_lr()["lr"][0]
        loss_cls = outputs.get("loss_cls", nan)
        loss, loss_bbox = outputs.get("loss", nan), outputs.get("loss_bbox", nan)
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
