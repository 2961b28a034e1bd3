"""Find mistakes in a plan before its first trial starts."""

import importlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from mmdet.registry import MODELS
from mmengine.config import Config, ConfigDict
from mmengine.registry import DefaultScope

import ablations.training.trial  # noqa: F401 - trials are forked from the process that checks
from ablations.store.files import read_json
from ablations.store.record import CONFIG, TRIAL
from ablations.training.first_batch import SCOPE, cause, check_batches
from ablations.training.heads import heads
from ablations.training.wandb_client import settings_errors
from ablations.training.weights import missing_weights


def check_configs(configs: list[dict[str, Any]]) -> list[str]:
    """Build every distinct loss and detector once; check the settings of W&B.

    Args:
        configs: the resolved configs of the plan; those that differ in the seed alone may be left
            out.

    Returns:
        What is wrong, a line each.
    """
    try:
        _import_custom(configs)
    except (ValueError, OSError, ImportError) as error:
        return [" ".join(str(error).split())]
    errors = _distinct(_loss_errors(configs)) or _distinct(_model_errors(configs))
    return errors or settings_errors()


def check_planned(folders: list[Path]) -> list[str]:
    """Check losses, detectors, weights and first batches of planned trials; a line a mistake."""
    configs = [
        Config.fromfile(folder / CONFIG, import_custom_modules=False)._cfg_dict.to_dict()
        for folder in folders
    ]
    errors = check_configs(configs) or missing_weights(configs)
    if errors or not folders:
        return errors
    data = (read_json(folders[0] / TRIAL) or {}).get("data", {})
    return check_batches(configs, folders[0].parents[1], data)


def fetch_weights(configs: list[dict[str, Any]]) -> list[str]:
    """Make pretrained weights available; one line for each that is missing."""
    return missing_weights(configs)


def _distinct(lines: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(lines))


def _import_custom(configs: list[dict[str, Any]]) -> None:
    for config in configs:
        for name in config.get("custom_imports", {}).get("imports", []):
            importlib.import_module(name)


def _losses(node: Any) -> Iterable[dict[str, Any]]:
    """Every ``loss_*`` config below ``node``."""
    if isinstance(node, dict):
        for key, value in node.items():
            if str(key).startswith("loss_") and isinstance(value, dict) and "type" in value:
                yield value
            else:
                yield from _losses(value)
    elif isinstance(node, list | tuple):
        for item in node:
            yield from _losses(item)


def _once_each(values: Iterable[Any], build: Callable[[Any], Any]) -> Iterable[str]:
    """Build every distinct value; yield a line for each that cannot be built."""
    seen = set()
    for value in values:
        key = json.dumps(value, sort_keys=True, default=str)
        if key in seen:
            continue
        seen.add(key)
        try:
            with DefaultScope.overwrite_default_scope(SCOPE):
                build(ConfigDict(value))
        except Exception as error:
            text = cause(error)
            yield f"{value.get('type')}: {text.removeprefix(value.get('type') + ': ')}"


def _loss_errors(configs: list[dict[str, Any]]) -> Iterable[str]:
    return _once_each((loss for cfg in configs for loss in _losses(cfg["model"])), MODELS.build)


def _model_errors(configs: list[dict[str, Any]]) -> Iterable[str]:
    """Build each detector once, with any of its losses, without loading weights."""

    def without(node: Any) -> Any:
        if isinstance(node, dict):
            return {
                key: value["type"] if key == "loss_cls" else without(value)
                for key, value in node.items()
            }
        return node

    models: dict[str, dict[str, Any]] = {}
    for config in configs:
        models.setdefault(json.dumps(without(config["model"]), default=str), config["model"])
    return _once_each(models.values(), _build_detector)


def _build_detector(model: ConfigDict) -> None:
    """Build a detector.

    Raises:
        ValueError: a head's outputs are for another kind of loss than it has.
    """
    for head in heads(MODELS.build(model)):
        loss = getattr(head.module, "loss_cls", None)
        if loss is None or not getattr(loss, "use_sigmoid", False):
            continue
        if head.in_stage_two:
            if not getattr(loss, "custom_activation", False):
                raise ValueError(
                    f"{head.path} has a softmax over the classes and background: its loss_cls "
                    f"cannot be {type(loss).__name__} with use_sigmoid=True; "
                    "ablations.SoftmaxFocalLoss and ablations.SoftmaxCrossEntropyLoss are for it"
                )
            continue
        needed = getattr(head.module, "num_classes", None)
        given = getattr(head.module, "cls_out_channels", needed)
        if needed != given:
            raise ValueError(
                f"loss_cls of type {type(loss).__name__} needs use_sigmoid=True in its config, "
                f"or mmdet gives the head {given} outputs for {needed} classes"
            )
