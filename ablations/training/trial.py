"""Run one trial: read its folder, train, write its record. Every launcher calls this."""

import contextlib
import math
import os
import resource
import sys
import time
import traceback
from dataclasses import dataclass, field
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dist import get_world_size, is_main_process
from mmengine.runner import Runner

from ablations.losses.native import library
from ablations.store import record as files
from ablations.store.code import user_code
from ablations.store.config import config_text
from ablations.store.files import read_json, sha256
from ablations.store.lease import Lease
from ablations.store.record import Record, read_record, write_record
from ablations.store.status import read_status, update_status
from ablations.training.checked_data import refuse_other_data, use_checked
from ablations.training.checkpoint import Interrupted
from ablations.training.code import code_state, loaded_code
from ablations.training.distributed import bare_model, distribute, in_any_process, join_group
from ablations.training.fingerprint import fingerprint
from ablations.training.latency import inference_ms
from ablations.training.loss_curve import Diverged, LossCurveHook
from ablations.training.wandb_backend import close_run
from ablations.training.weights import check_unchanged

_PACKAGES = (
    *("torch", "torchvision", "mmengine", "mmcv", "mmdet"),
    *("onedl-mmengine", "onedl-mmcv", "onedl-mmdetection"),  # the fork: docs/install.md
    *("numpy", "pycocotools", "opencv-python", "opencv-python-headless", "loss-ablations"),
)
EXIT_STATUS = {"finished": 0, "diverged": 0, "failed": 1, "alone": 1, "interrupted": 130}
_FINAL = 50  # iterations of the curve's end that ``Record.final`` averages


class PlainConfig(Config):
    """A config that prints itself fast; mmengine formats it several times a run."""

    @property
    def pretty_text(self) -> str:
        """The config as Python source."""
        return config_text(self._cfg_dict.to_dict())


@dataclass
class Attempt:
    """The state of a running trial."""

    folder: Path
    trial: dict[str, Any]
    started: str = field(
        default_factory=lambda: datetime.now(timezone.utc).isoformat(timespec="seconds")
    )
    began: float = field(default_factory=time.monotonic)
    before: list[dict[str, Any]] = field(default_factory=list)  # earlier attempts
    runner: Runner | None = None
    code: dict[str, str] = field(default_factory=dict)  # what the record says of them, gathered
    versions: dict[str, str] = field(default_factory=dict)  # before training, so that nothing can
    protocol: dict[str, Any] = field(default_factory=dict)  # go wrong with it afterwards

    @property
    def curve(self) -> LossCurveHook | None:
        """The hook that holds the loss curve, once there is a runner."""
        hooks = self.runner.hooks if self.runner is not None else []
        return next((hook for hook in hooks if isinstance(hook, LossCurveHook)), None)


def run_trial(folder: Path) -> str:
    """Run or continue the trial in ``folder`` and write its record.

    Returns:
        ``finished``, ``diverged`` or ``failed``. If the trial has no record yet and must be
        resumed: ``interrupted``, or ``alone`` (another of its processes died).

    Raises:
        LeaseHeldError: another process runs this trial.
    """
    join_group()
    with Lease(folder) if is_main_process() else contextlib.nullcontext():
        if (done := read_record(folder)) is not None:
            return done.status
        code_state(), loaded_code()  # now: the checkout may change meanwhile
        trial = read_json(folder / files.TRIAL)
        status = read_status(folder)
        attempt = Attempt(folder, trial, before=status.get("attempts", []))
        _update(attempt, state="starting", reason=None)
        try:
            attempt.code, attempt.versions = dict(loaded_code()), _versions()
            attempt.runner = _build_runner(attempt)
            attempt.protocol = fingerprint(attempt.runner.cfg, get_world_size())
            attempt.runner.train()
        except Diverged as outcome:
            return _write_outcome(attempt, "diverged", str(outcome))
        except (Interrupted, KeyboardInterrupt) as outcome:
            _update(attempt, state="interrupted", reason=f"stopped by {outcome or 'SIGINT'}")
            close_run(attempt.runner, "interrupted")
            return "interrupted"
        except Exception as error:
            traceback.print_exc()
            if _another_is_gone(error):
                _update(attempt, state="interrupted", reason="another process of the trial is gone")
                return "alone"
            return _write_outcome(attempt, "failed", _one_line(error))
        return _write_outcome(attempt, "finished", None)


def _another_is_gone(error: Exception) -> bool:
    """Whether this process failed only because another process of the trial is gone."""
    lost = isinstance(error, torch.distributed.DistError) or "by peer" in str(error)
    return get_world_size() > 1 and lost


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:300]


def _update(attempt: Attempt, state: str, reason: str | None) -> None:
    """Write the state of this attempt into ``status.json``."""
    if not is_main_process():
        return
    seconds = round(time.monotonic() - attempt.began, 1)
    now = {"started": attempt.started, "seconds": seconds, "outcome": reason or state}
    attempts = [*attempt.before, now]
    update_status(attempt.folder, state=state, reason=reason, attempts=attempts)


def _versions() -> dict[str, str]:
    """Of everything that can change a number; what is not installed under its usual name is left
    out."""
    found = {"python": sys.version.split()[0]}
    for name in _PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found | {"focal loss on the CPU": "compiled" if library() is not None else "torch"}


def _build_runner(attempt: Attempt) -> Runner:
    """mmengine's Runner for the trial's config; it resumes from a checkpoint if there is one."""
    folder, trial = attempt.folder, attempt.trial
    cfg = PlainConfig(Config.fromfile(folder / files.CONFIG)._cfg_dict)
    cfg.work_dir = str(folder)
    evaluator = cfg.get("val_evaluator")
    if isinstance(evaluator, dict) and evaluator.get("type") == "BoxAP":
        evaluator["outfile"] = str(folder / files.PREDICTIONS)
        evaluator["collect_dir"] = str(folder / ".collected")
    use_checked(cfg, folder, trial["data"])
    distribute(cfg)
    check_unchanged(cfg, trial.get("identity", {}))
    if in_any_process((folder / files.CHECKPOINT).is_file()):
        cfg.load_from = str(folder / files.CHECKPOINT)
        cfg.resume = True
    refuse_other_data(folder, trial["data"])
    attempt.code |= _check_code(trial, cfg)
    # Deterministic mode also fills every new tensor, so that reading uninitialised memory gives the
    # same values each time. That costs 5 % of the time, and nothing here reads such memory.
    setattr(torch.utils.deterministic, "fill_uninitialized_memory", False)  # noqa: B010
    return Runner.from_cfg(cfg)


def _check_code(trial: dict[str, Any], cfg: Config) -> dict[str, str]:
    """The user's code that the config has imported, if it is what the trial was planned with.

    Raises:
        ValueError: a module has changed; the message names it.
    """
    found = user_code(cfg)
    planned = trial.get("identity", {}).get("code", {})
    changed = sorted(name for name in {*found, *planned} if found.get(name) != planned.get(name))
    if changed:
        raise ValueError(f"{', '.join(changed)} has changed since the trial was planned")
    return found


def _write_outcome(attempt: Attempt, status: files.Status, reason: str | None) -> str:
    """Write the trial's files, the record last."""
    _update(attempt, state=status, reason=reason)
    if not is_main_process():
        return status
    folder, runner, curve = attempt.folder, attempt.runner, attempt.curve
    metrics: dict[str, Any] = {}
    timings: dict[str, float] = {}
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
    names = [files.CONFIG, files.TRIAL, files.CURVE, files.WEIGHTS]
    names += [files.PREDICTIONS, files.PROBABILITIES] if status == "finished" else []
    trial = attempt.trial
    attempts = read_status(folder)["attempts"]
    on_cuda = torch.cuda.is_available()
    write_record(
        folder,
        Record(
            trial_id=trial["id"],
            sweep=trial["sweep"],
            point=trial["point"],
            label=trial["label"],
            seed=trial["seed"],
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
            device=torch.cuda.get_device_name() if on_cuda else "cpu",
            peak_memory_bytes=torch.cuda.max_memory_allocated()
            if on_cuda
            else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            attempts=attempts,
            loss=trial["loss"],
            protocol=attempt.protocol,
            data=trial["data"],
            versions=attempt.versions,
            code=attempt.code,
            git=code_state(),
            files={name: sha256(folder / name) for name in names if (folder / name).is_file()},
        ),
    )
    if status != "failed":  # a failed trial may be retried from its checkpoint
        (folder / files.CHECKPOINT).unlink(missing_ok=True)
    close_run(runner, status, read_record(folder))
    return status


def _save_weights(model: torch.nn.Module, path: Path) -> None:
    draft = path.with_name(f".{path.name}.draft")
    torch.save({"state_dict": model.state_dict()}, draft)
    draft.replace(path)


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
    wall = sum(attempt["seconds"] for attempt in attempts)
    timings = {"wall_s": wall, "device_s": wall * get_world_size()}
    timings["iterations"] = len(curve.rows) if curve is not None else 0
    if runner is not None and "train/time" in runner.message_hub.log_scalars:
        seconds = runner.message_hub.get_scalar("train/time").data[0]
        timings["iteration_s"] = float(np.median(seconds))
    return timings


def main(folder: str) -> None:
    """Run one trial in a launcher's process, with its output in the trial's log.

    Exits with 0 for a finished or diverged trial, 1 for a failed trial or one that lost a process,
    130 for an interrupted trial.
    """
    path = Path(folder)
    with (path / files.LOG).open("a") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    if not torch.cuda.is_available():
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    sys.exit(EXIT_STATUS[run_trial(path)])
