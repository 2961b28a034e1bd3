"""Adapt a schedule to another batch or number of iterations; it keeps its shape."""

import copy
from typing import Any

from ablations.store.config import schedulers
from ablations.sweep.errors import UsageError

SMOKE_ITERATIONS = 30
SMOKE_IMAGES = 100  # of the validation set

_ITERATIONS = ("max_iters", "val_interval", "val_begin")
_POINTS = ("begin", "end", "T_max", "step_size")


def iterations_of(config: dict[str, Any]) -> int:
    """The number of iterations that the config trains.

    Raises:
        UsageError: it does not train by iterations.
    """
    found = config.get("train_cfg", {}).get("max_iters")
    if not found:
        raise UsageError("the config has no train_cfg.max_iters; sweeps train by iterations")
    return int(found)


def rescale(config: dict[str, Any], iterations: int) -> dict[str, Any]:
    """The same schedule in ``iterations`` iterations: every milestone moves in proportion.

    Raises:
        UsageError: the config does not train by iterations.
    """
    old = iterations_of(config)
    config = copy.deepcopy(config)
    factor = iterations / old

    def scaled(value: int) -> int:
        return max(1, round(value * factor)) if value else value

    train = config["train_cfg"]
    for key in _ITERATIONS:
        if key in train:
            train[key] = scaled(train[key])
    train["max_iters"] = iterations
    for scheduler in schedulers(config):
        if scheduler.get("by_epoch", True):
            raise UsageError(f"the schedule {scheduler.get('type')} counts epochs; set by_epoch")
        for key in _POINTS:
            if isinstance(scheduler.get(key), int):
                scheduler[key] = scaled(scheduler[key])
        if "milestones" in scheduler:
            scheduler["milestones"] = [scaled(step) for step in scheduler["milestones"]]
    return config


def scale_to_batch(config: dict[str, Any], gpus_per_trial: int) -> dict[str, Any]:
    """Follow the total batch (processes x images) by the linear scaling rule (Goyal et al. 2017).

    The learning rate grows with the batch and the iterations shrink with it, so that as many
    images are seen. ``auto_scale_lr.base_batch_size`` says which batch the config was made for.

    Raises:
        UsageError: the config does not say for which batch it was made, and more than one process
            would change the batch.
    """
    images = config.get("train_dataloader", {}).get("batch_size")
    base = config.get("auto_scale_lr", {}).get("base_batch_size")
    if images is None:
        raise UsageError("the config has no train_dataloader.batch_size")
    total = images * gpus_per_trial
    if base is None:
        if gpus_per_trial == 1:
            return config
        raise UsageError(
            f"{gpus_per_trial} processes x {images} images make a batch of {total}, but the config "
            "does not say for which batch its learning rate is (auto_scale_lr.base_batch_size)"
        )
    if total == base:
        return config
    config = rescale(config, max(1, round(config["train_cfg"]["max_iters"] * base / total)))
    config["optim_wrapper"]["optimizer"]["lr"] *= total / base
    return config
