"""Write the trial's progress into ``status.json``."""

import math
import time
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor

from ablations.store.lease import check_lease
from ablations.store.status import update_status


@HOOKS.register_module()
class ProgressHook(Hook):
    """Rewrite ``status.json`` every few seconds: state, iteration, loss, seconds an iteration.

    Args:
        every_s: seconds between writes.
    """

    def __init__(self, every_s: float = 2.0) -> None:
        self.every_s = every_s
        self._last = 0.0

    def before_train(self, runner: Runner) -> None:
        """Remember where this attempt begins."""
        self._began, self._first = time.monotonic(), runner.iter

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Write, if ``every_s`` seconds have passed."""
        now = time.monotonic()
        if now - self._last < self.every_s or not is_main_process():
            return
        self._last = now
        done = runner.iter + 1
        loss = (outputs or {}).get("loss", math.nan)
        loss = loss.item() if isinstance(loss, Tensor) else float(loss)
        folder = Path(runner.work_dir)
        check_lease(folder)
        update_status(
            folder,
            state="training",
            iteration=done,
            iterations=runner.max_iters,
            loss=loss if math.isfinite(loss) else None,
            iteration_s=(now - self._began) / max(done - self._first, 1),
        )

    def before_val(self, runner: Runner) -> None:
        """Write that the trial evaluates."""
        if is_main_process():
            check_lease(Path(runner.work_dir))
            update_status(Path(runner.work_dir), state="evaluating")
