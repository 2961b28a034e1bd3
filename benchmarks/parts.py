"""Measure where a trial's time goes: name this module in a config's ``custom_imports``.

Each part is a method of mmdet, mmengine or torch that both ways of training go through. A part
that runs inside another is not counted twice. When the process ends, the seconds of each part, the
iterations and the process's total time are written to a file in the folder ``$PARTS``.
"""

import functools
import json
import os
import time
from collections import defaultdict
from collections.abc import Callable
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any

import psutil
from mmdet.models import SingleStageDetector
from mmdet.models.data_preprocessors import DetDataPreprocessor
from mmdet.models.dense_heads.anchor_head import AnchorHead
from mmengine.optim import OptimWrapper
from mmengine.runner import BaseLoop, IterBasedTrainLoop, ValLoop
from torch.utils.data.dataloader import _BaseDataLoaderIter

PARTS = {
    "data": [(_BaseDataLoaderIter, "__next__"), (DetDataPreprocessor, "forward")],
    "targets": [(AnchorHead, "get_anchors"), (AnchorHead, "get_targets")],
    "loss": [(AnchorHead, "loss_by_feat")],
    "forward": [(SingleStageDetector, "loss")],
    "backward": [(OptimWrapper, "backward")],
    "optimizer": [(OptimWrapper, "step"), (OptimWrapper, "zero_grad")],
    "evaluation": [(ValLoop, "run")],
    "training loop and hooks": [(IterBasedTrainLoop, "run")],
}

_seconds: dict[str, float] = defaultdict(float)
_open: list[tuple[str, float]] = []  # the parts that run now, outermost first; when each resumed
_iterations = 0


def clock(part: str, method: Callable[..., Any]) -> Callable[..., Any]:
    """``method``, its time counted for ``part`` unless that is within the evaluation."""

    @functools.wraps(method)
    def clocked(*args: Any, **kwargs: Any) -> Any:
        if any(name in ("evaluation", part) for name, _ in _open):
            return method(*args, **kwargs)
        _pause()
        _open.append((part, time.perf_counter()))
        try:
            return method(*args, **kwargs)
        finally:
            _pause()
            _open.pop()
            if _open:
                _open[-1] = (_open[-1][0], time.perf_counter())

    return clocked


def _pause() -> None:
    if _open:
        part, since = _open[-1]
        _seconds[part] += time.perf_counter() - since


def _family(base: type) -> list[type]:
    return [base, *(member for child in base.__subclasses__() for member in _family(child))]


def install() -> None:
    """Measure the time of every part, in mmdet's classes and in those that replace them."""
    for part, methods in PARTS.items():
        for base, name in methods:
            for cls in _family(base):
                if name in vars(cls):
                    setattr(cls, name, clock(part, vars(cls)[name]))
    run_iter = IterBasedTrainLoop.run_iter

    def counted(self: BaseLoop, batch: Any) -> None:
        global _iterations
        _iterations += 1
        run_iter(self, batch)

    IterBasedTrainLoop.run_iter = counted


def report() -> None:
    """Write what was clocked."""
    if not _iterations:  # a loader's worker
        return
    life = time.time() - psutil.Process().create_time()
    outside = life - sum(_seconds.values())
    found = {**_seconds, "imports and set-up": outside}
    path = Path(os.environ["PARTS"]) / f"{os.getpid()}.json"
    path.write_text(json.dumps({"iterations": _iterations, "seconds": found}))


install()
Finalize(None, report, exitpriority=1)  # atexit is not for forked processes
