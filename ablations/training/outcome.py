"""A trial's attempt: what is known of it while it runs, and the files that it ends with."""

import contextlib
import math
import re
import resource
import sys
import time
import traceback
from dataclasses import dataclass, field
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from mmengine.dist import get_world_size, is_main_process
from mmengine.runner import Runner

from ablations.losses.native import library
from ablations.store import record as files
from ablations.store.files import put_in_place, removed_on_failure, sha256
from ablations.store.lease import check_lease
from ablations.store.record import Record, planned, read_record, write_record
from ablations.store.status import read_status, update_status
from ablations.training.code import code_state
from ablations.training.complexity import complexity
from ablations.training.distributed import bare_model
from ablations.training.imbalance import ImbalanceHook
from ablations.training.latency import inference_ms
from ablations.training.loss_curve import Diverged, LossCurveHook
from ablations.training.wandb_backend import close_run

_PACKAGES = (
    *("torch", "torchvision", "mmengine", "mmcv", "mmdet"),
    *("onedl-mmengine", "onedl-mmcv", "onedl-mmdetection"),  # the fork: docs/install.md
    *("numpy", "pycocotools", "opencv-python", "opencv-python-headless", "loss-ablations"),
)
_RESERVE = 64 * 2**20  # bytes, for the record of a trial that has used up all memory
_NO_MEMORY = re.compile("can't allocate memory|not enough memory|cannot allocate memory", re.I)
_FINAL = 50  # iterations of the curve's end that ``Record.final`` averages

_Hook = TypeVar("_Hook")


@dataclass
class Attempt:
    """The state of a running trial."""

    folder: Path
    trial: dict[str, Any] = field(default_factory=dict)
    started: str = field(
        default_factory=lambda: datetime.now(timezone.utc).isoformat(timespec="seconds")
    )
    began: float = field(default_factory=time.monotonic)
    before: list[dict[str, Any]] = field(default_factory=list)  # earlier attempts
    runner: Runner | None = None
    code: dict[str, str] = field(default_factory=dict)  # what the record says of them, gathered
    versions: dict[str, str] = field(default_factory=dict)  # before training, so that nothing can
    protocol: dict[str, Any] = field(default_factory=dict)  # go wrong with it afterwards
    reserve: bytearray = field(default_factory=lambda: bytearray(_RESERVE))

    @property
    def curve(self) -> LossCurveHook | None:
        """The hook that holds the loss curve, once there is a runner."""
        return self._hook(LossCurveHook)

    @property
    def imbalance(self) -> ImbalanceHook | None:
        """The hook that holds what was counted of the imbalance."""
        return self._hook(ImbalanceHook)

    def _hook(self, kind: type[_Hook]) -> _Hook | None:
        hooks = self.runner.hooks if self.runner is not None else []
        return next((hook for hook in hooks if isinstance(hook, kind)), None)


def one_line(error: BaseException) -> str:
    """An error as a record's reason."""
    text = f"{type(error).__name__}: {' '.join(str(error).split())}".removesuffix(": ")
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or _NO_MEMORY.search(text):
        text = f"out of memory: {text}"
    return text[:300]


def update(attempt: Attempt, state: str, reason: str | None, **more: Any) -> None:
    """Write the state of this attempt into ``status.json``.

    Raises:
        LeaseLostError: another process has taken the trial over.
    """
    if not is_main_process():
        return
    check_lease(attempt.folder)
    seconds = round(time.monotonic() - attempt.began, 1)
    now = {"started": attempt.started, "seconds": seconds, "outcome": reason or state}
    attempts = [*attempt.before, now]
    update_status(
        attempt.folder, state=state, reason=reason, attempts=attempts, record=None, **more
    )


def versions() -> dict[str, str]:
    """Versions of everything that can change a number; what is not installed under its usual name
    is left out."""
    found = {"python": sys.version.split()[0]}
    for name in _PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found | {"focal loss on the CPU": "compiled" if library() is not None else "torch"}


def write_outcome(attempt: Attempt, status: files.Status, reason: str | None) -> str:
    """Write the trial's files, the record last."""
    update(attempt, state=status, reason=reason)
    if not is_main_process():
        return status
    folder, runner, curve = attempt.folder, attempt.runner, attempt.curve
    metrics: dict[str, Any] = {}
    timings: dict[str, float] = {}
    size: dict[str, float] = {}
    unbalanced: dict[str, Any] = {}
    if curve is not None and status != "finished":
        with contextlib.suppress(Diverged, RuntimeError):  # a broken device gives nothing back
            curve.take_waiting()
        curve.write(folder)
    if runner is not None and status == "finished":
        _save_weights(bare_model(runner), folder / files.WEIGHTS)
        metrics = _last_metrics(runner)
        try:
            timings["inference_ms"] = inference_ms(runner)
        except Exception:  # a time is not worth a training
            traceback.print_exc()
        try:
            size = complexity(runner)
        except Exception:
            traceback.print_exc()
    if runner is not None and status != "failed":
        unbalanced = _imbalance(attempt.imbalance)
    names = [files.CONFIG, files.TRIAL, files.CURVE, files.WEIGHTS]
    names += [files.PREDICTIONS, files.PROBABILITIES] if status == "finished" else []
    attempts = read_status(folder)["attempts"]
    on_cuda = torch.cuda.is_available()
    write_record(
        folder,
        Record(
            **planned(attempt.trial),
            status=status,
            reason=reason,
            metrics={name: _number(metrics.get(name)) for name in files.METRICS} if metrics else {},
            per_class={
                name.removeprefix("AP/"): _number(value)
                for name, value in metrics.items()
                if name.startswith("AP/")
            },
            history=[
                {key: value for key, value in row.items() if _number(value) is not None}
                for row in (curve.history if curve is not None else [])
            ],
            final=_final(curve),
            timings=_timings(attempts, curve, runner) | timings,
            complexity=size,
            **unbalanced,
            device=torch.cuda.get_device_name() if on_cuda else "cpu",
            peak_memory_bytes=torch.cuda.max_memory_allocated()
            if on_cuda
            else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            attempts=attempts,
            protocol=attempt.protocol,
            versions=attempt.versions,
            code=attempt.code,
            git=code_state(),
            files={name: sha256(folder / name) for name in names if (folder / name).is_file()},
        ),
    )
    update_status(folder, record=sha256(folder / files.RECORD))
    if status != "failed":  # a failed trial may be retried from its checkpoint
        for name in (files.CHECKPOINT, files.PREVIOUS):
            (folder / name).unlink(missing_ok=True)
    close_run(runner, status, read_record(folder))
    return status


def _imbalance(hook: ImbalanceHook | None) -> dict[str, Any]:
    """The record's fields ``imbalance`` and ``imbalance_missing``."""
    if hook is None:
        return {"imbalance_missing": "the config has no ImbalanceHook"}
    return {"imbalance": hook.entries(), "imbalance_missing": hook.missing()}


def _save_weights(model: torch.nn.Module, path: Path) -> None:
    draft = path.with_name(f".{path.name}.draft")
    with removed_on_failure(draft):
        torch.save({"state_dict": model.state_dict()}, draft)
        put_in_place(draft, path)


def _last_metrics(runner: Runner) -> dict[str, float]:
    """The metrics of the last validation, from mmengine's message hub."""
    values = {}
    for name, buffer in runner.message_hub.log_scalars.items():
        if name.startswith("val/coco/"):
            values[name.removeprefix("val/coco/")] = float(buffer.current())
    return values


def _number(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def _final(curve: LossCurveHook | None) -> dict[str, float]:
    if curve is None or not curve.rows:
        return {}
    with np.errstate(invalid="ignore"):
        means = np.mean(curve.rows[-_FINAL:], axis=0)
    columns = dict(zip(files.CURVE_COLUMNS, means, strict=True))
    return {key: float(v) for key, v in columns.items() if math.isfinite(v) and key[:4] == "loss"}


def _timings(
    attempts: list[dict[str, Any]], curve: LossCurveHook | None, runner: Runner | None
) -> dict[str, float]:
    wall = sum(attempt.get("seconds", 0.0) for attempt in attempts)
    timings = {"wall_s": wall, "device_s": wall * get_world_size()}
    timings["iterations"] = len(curve.rows) if curve is not None else 0
    if runner is not None and "train/time" in runner.message_hub.log_scalars:
        seconds = runner.message_hub.get_scalar("train/time").data[0]
        timings["iteration_s"] = float(np.median(seconds))
    return timings
