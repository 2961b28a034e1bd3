"""A visualizer backend that writes every trial as an offline W&B run.

A trial uses no network and never waits for W&B: a separate thread writes the run into the trial's
folder (``<trial>/wandb/``), unless ``WANDB_MODE`` is ``disabled``. The sweep's command uploads the
runs (``ablations.reporting.wandb_sync``). A resumed trial writes its whole history again, so its
newest ``offline-run-*`` folder is complete.
"""

import contextlib
import os
import queue
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mmcv
import numpy as np
import torch
from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.registry import VISBACKENDS
from mmengine.runner import Runner
from mmengine.visualization import BaseVisBackend
from numpy.typing import NDArray

from ablations.losses.functional import focal_loss
from ablations.store import record as files
from ablations.store.files import read_json, write_text
from ablations.store.logit_histogram import cumulative_share, easiest_first
from ablations.store.record import Record
from ablations.store.wandb_names import (
    FOLDER,
    OFFLINE_SETTINGS,
    PROBLEM,
    keep_inside,
    mode,
    project,
    run_id,
    tag,
)
from ablations.training.wandb_client import problem, wandb

FINISH_TIMEOUT = 20.0  # seconds a trial waits for W&B at most, after writing its record

_PREFIXES = ("train/", "val/")
_NOT_SHARED = ("work_dir", "load_from", "resume")  # they differ between attempts of one trial
_PICTURES = 4
_SHOWN_SCORE = 0.3
_CDF_GAMMAS = (0.0, 0.5, 1.0, 2.0)  # the paper's Figure 4
_CDF_POINTS = 100

Run = Any  # wandb.Run; wandb may be missing
Action = Callable[[Run], None]


class RunWriter:
    """Writes a W&B run in a separate thread, so that W&B cannot delay the trial.

    The first error ends the writing and puts a line into the trial's log.

    Args:
        begin: starts the run.
        problem: file that gets the error too, for the sweep's last line.
    """

    def __init__(self, begin: Callable[[], Run], problem: Path | None = None) -> None:
        self._begin = begin
        self._problem = problem
        self._actions: queue.SimpleQueue[Action | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write, name="wandb", daemon=True)
        self._thread.start()

    def _write(self) -> None:
        try:
            run = self._begin()
            while (action := self._actions.get()) is not None:
                action(run)
        except Exception as error:
            self._warn(f"{type(error).__name__}: {error}")

    def _warn(self, reason: str) -> None:
        print_log(f"W&B stops here ({reason}); the trial's record is not affected", "current", 30)
        if self._problem is not None:
            with contextlib.suppress(OSError):
                self._problem.parent.mkdir(exist_ok=True)
                write_text(self._problem, " ".join(reason.split()))

    def write(self, action: Action) -> None:
        """Queue ``action``; the thread calls it with the run, in order."""
        self._actions.put(action)

    def close(self, timeout: float) -> None:
        """Wait until all is written, at most ``timeout`` seconds; then stop wandb."""
        self._actions.put(None)
        self._thread.join(timeout)
        if self._thread.is_alive():
            self._warn(f"not done after {timeout:g} s")
            _kill_service()


def _kill_service() -> None:
    """Kill this process's ``wandb-core``; otherwise the exit would wait for it."""
    for children in Path("/proc/self/task").glob("*/children"):
        for pid in children.read_text().split():
            with contextlib.suppress(OSError):
                if Path(f"/proc/{pid}/comm").read_text().strip() == "wandb-core":
                    os.kill(int(pid), signal.SIGKILL)


@VISBACKENDS.register_module()
class TrialRunBackend(BaseVisBackend):
    """The trial as an offline W&B run, ``<sweep>-<trial id>``, in the group of its grid point.

    It logs the scalars named ``train/...`` and ``val/...`` (from ``LossCurveHook``) and ignores
    those of mmengine's text log. A config that is run outside a trial's folder logs nothing.
    """

    def __init__(self, save_dir: str) -> None:
        super().__init__(save_dir)
        self._writer: RunWriter | None = None

    @property
    def experiment(self) -> None:
        """``None``: only the writer's thread may use the run."""

    def _init_env(self) -> None:
        """The run starts with the config (``add_config``)."""

    def add_config(self, config: Config, **_kwargs: Any) -> None:
        """Start the run of the trial in ``config.work_dir``."""
        folder = Path(config.work_dir)
        trial = read_json(folder / files.TRIAL)
        if trial is None or mode() == "disabled":
            return
        shared = run_config(trial, config.to_dict())
        problem = folder / FOLDER / PROBLEM
        problem.unlink(missing_ok=True)  # an earlier attempt's
        self._writer = RunWriter(lambda: _begin(folder, trial, shared), problem)

    def add_scalar(self, name: str, value: float, step: int = 0, **kwargs: Any) -> None:
        """See ``add_scalars``."""
        self.add_scalars({name: value}, step, **kwargs)

    def add_scalars(
        self, scalar_dict: dict[str, Any], step: int = 0, file_path: Any = None, **_kwargs: Any
    ) -> None:
        """Log scalars at an iteration; those of one iteration make one row."""
        row = {k: float(v) for k, v in scalar_dict.items() if k.startswith(_PREFIXES)}
        if row and self._writer is not None:
            self._writer.write(lambda run: run.log({"iteration": step, **row}, step=step))

    def add_image(self, name: str, image: Any, step: int = 0, **_kwargs: Any) -> None:
        """Log an RGB image of shape [H, W, 3]."""
        if self._writer is not None:
            self._writer.write(lambda run: run.log({name: wandb.Image(image)}, step=step))

    def finish(self, runner: Runner, outcome: str, record: Record | None) -> None:
        """Log the end and close the run; waits for W&B ``FINISH_TIMEOUT`` seconds at most.

        Args:
            runner: the trial's.
            outcome: the record's status, or ``interrupted``.
            record: ``None`` for a trial that was interrupted.
        """
        if self._writer is None:
            return
        folder, step = Path(runner.work_dir), runner.iter
        if outcome == "finished":
            self._writer.write(lambda run: run.log(_pictures(runner, folder), step=step))
            self._writer.write(lambda run: run.log(_loss_cdfs(folder), step=step))
        if record is not None:
            self._writer.write(lambda run: run.summary.update(run_summary(record)))
        self._writer.write(lambda run: _end(run, outcome))
        self._writer.close(FINISH_TIMEOUT)
        self._writer = None


def close_run(runner: Runner | None, outcome: str, record: Record | None = None) -> None:
    """Close the W&B run of a trial, if it has one; see ``TrialRunBackend.finish``."""
    visualizer = runner.visualizer if runner is not None else None
    for backend in getattr(visualizer, "_vis_backends", {}).values():
        if isinstance(backend, TrialRunBackend) and runner is not None:
            backend.finish(runner, outcome, record)


def run_config(trial: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    """The run's config: the grid's coordinates at the top level, the detector's config below."""
    loss = str(trial["loss"].get("type", "")).removeprefix("ablations.")
    shared = {key: _by_name(value) for key, value in config.items() if key not in _NOT_SHARED}
    if isinstance(shared.get("val_evaluator"), dict):
        shared["val_evaluator"] = {**shared["val_evaluator"], "outfile": None}
    return {
        "loss": loss,
        **trial["point"],
        "seed": trial["seed"],
        "sweep": trial["sweep"],
        "trial": trial["id"],
        "detector": shared,
    }


def _by_name(node: Any) -> Any:
    """A part of a config with the checked annotations by their names, not where they lie here."""
    if isinstance(node, dict):
        return {
            key: Path(value).name
            if key == "ann_file" and isinstance(value, str) and Path(value).is_absolute()
            else _by_name(value)
            for key, value in node.items()
        }
    if isinstance(node, list | tuple):
        return type(node)(map(_by_name, node))
    return node


def run_summary(record: Record) -> dict[str, Any]:
    """The run's summary, from the record: last and best AP, final losses, status."""
    summary: dict[str, Any] = {"status": record.status, **record.metrics}
    if record.reason:
        summary["reason"] = record.reason
    best = max(record.history, key=lambda row: row.get("AP", -1.0), default={})
    if "AP" in best:
        summary |= {"best/AP": best["AP"], "best/iteration": best["iteration"]}
    summary |= {f"final/{name}": value for name, value in record.final.items()}
    summary |= {f"AP_class/{name}": value for name, value in record.per_class.items()}
    return summary | {f"timings/{name}": value for name, value in record.timings.items()}


def _begin(folder: Path, trial: dict[str, Any], config: dict[str, Any]) -> Run:
    if wandb is None:
        raise ImportError(f"no wandb: {problem}")
    keep_inside(folder)
    run = wandb.init(
        mode="offline",
        project=project(),
        id=run_id(trial["sweep"], trial["id"]),
        name=f"{trial['label']} seed {trial['seed']}",
        group=trial["label"][:128],
        job_type="trial",
        tags=[tag(trial["sweep"])],
        config=config,
        dir=str(folder),
        settings=wandb.Settings(**OFFLINE_SETTINGS),
    )
    run.define_metric("iteration", hidden=True)
    for prefix in _PREFIXES:
        run.define_metric(f"{prefix}*", step_metric="iteration")
    return run


def _end(run: Run, outcome: str) -> None:
    if outcome == "interrupted":
        run.mark_preempting()
    run.finish(exit_code=0 if outcome in ("finished", "diverged") else 1)
    wandb.teardown()


def _pictures(runner: Runner, folder: Path) -> dict[str, Any]:
    """The first validation images, with their objects and the detections."""
    dataset = runner.val_dataloader.dataset
    labels = dict(enumerate(dataset.metainfo["classes"]))
    of_category = {category: label for label, category in enumerate(dataset.cat_ids)}
    with np.load(folder / files.PREDICTIONS) as stored:
        found = {name: stored[name] for name in files.PREDICTION_COLUMNS}
    pictures = []
    for index in range(min(_PICTURES, len(dataset))):
        info = dataset.get_data_info(index)
        here = (found["image_id"] == info["img_id"]) & (found["score"] >= _SHOWN_SCORE)
        drawn = {name: values[here] for name, values in found.items()}
        guesses = [
            _box([x, y, x + w, y + h], of_category[int(category)], float(score))
            for (x, y, w, h), category, score in zip(
                drawn["bbox"], drawn["category_id"], drawn["score"], strict=True
            )
        ]
        objects = [_box(object["bbox"], object["bbox_label"]) for object in info["instances"]]
        boxes = {
            "predicted": {"box_data": guesses, "class_labels": labels},
            "objects": {"box_data": objects, "class_labels": labels},
        }
        # The trial's own decoder: W&B's would not turn an image by its EXIF orientation.
        pixels = mmcv.imread(info["img_path"], channel_order="rgb")
        pictures.append(wandb.Image(pixels, boxes=boxes, caption=str(info["img_id"])))
    return {"predictions": pictures}


def _box(corners: Any, label: int, score: float | None = None) -> dict[str, Any]:
    position = dict(zip(("minX", "minY", "maxX", "maxY"), map(float, corners), strict=True))
    box: dict[str, Any] = {"position": position, "domain": "pixel", "class_id": int(label)}
    return box if score is None else {**box, "scores": {"score": score}}


def _loss_cdfs(folder: Path) -> dict[str, Any]:
    """Figure 4 of this trial's model, as charts that W&B draws; none if its head has no samples."""
    charts: dict[str, Any] = {}
    if not (folder / files.PROBABILITIES).is_file():
        return charts
    with np.load(folder / files.PROBABILITIES) as stored:
        for name in ("positive", "negative"):
            counts = stored[name]
            if counts.any():
                shares = [loss_cdf(counts, name == "positive", g).tolist() for g in _CDF_GAMMAS]
                charts[f"loss_cdf/{name}s"] = wandb.plot.line_series(
                    xs=torch.linspace(0, 1, _CDF_POINTS + 1).tolist(),
                    ys=shares,
                    keys=[f"gamma={gamma:g}" for gamma in _CDF_GAMMAS],
                    title=f"Cumulative loss of {name}s, easiest first",
                    xname=f"fraction of {name}s",
                )
    return charts


def loss_cdf(counts: NDArray[np.int64], positive: bool, gamma: float) -> NDArray[np.float64]:
    """Share of the focal loss held by the easiest 0 %, 1 %, ... 100 % of some windows.

    Args:
        counts: windows by logit, int64 [logit_histogram.LOGIT_BINS].
        positive: whether the windows are positives.
        gamma: of the loss; alpha drops out.

    Returns:
        float64 [101], from 0 to 1.
    """
    logits, number = easiest_first(counts, positive)
    target = torch.full((len(logits),), 0 if positive else 1)
    column = torch.tensor(logits)[:, None]
    loss = focal_loss(column, target, gamma=gamma, alpha=None, reduction="none")
    fraction, share = cumulative_share(number, loss.squeeze(1).numpy())
    return np.interp(np.linspace(0, 1, _CDF_POINTS + 1), fraction, share)
