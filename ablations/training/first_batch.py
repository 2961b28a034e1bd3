"""One training step and one prediction of a plan before its first trial starts.

Building shows a misspelt key of a loss or a detector. What a data pipeline, an optimizer, mixed
precision or a loss does with a real batch shows in the batch: here, in a second, and not in a
trial.
"""

import contextlib
import copy
import io
import itertools
import json
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from mmdet.registry import HOOKS, MODELS, PARAM_SCHEDULERS
from mmengine.config import ConfigDict
from mmengine.device import get_device
from mmengine.evaluator import Evaluator
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ablations.store.config import schedulers
from ablations.store.manifest import trial_folder
from ablations.training.checked_data import use_checked
from ablations.training.fingerprint import fingerprint
from ablations.training.heads import heads

SCOPE = "mmdet"
IMAGES = 2  # of the batch: batch normalisation may want more than one


class _WrongError(Exception):
    """Something is wrong with a plan; the message is one line."""


@dataclass
class _Setting:
    """Configs that differ in the classification loss alone: the first, and all their losses."""

    config: dict[str, Any]
    losses: list[Any] = field(default_factory=list)


def check_batches(
    configs: list[dict[str, Any]], work_dir: Path | None = None, data: dict[str, Any] | None = None
) -> list[str]:
    """Train every distinct setting for one step on the smallest batch, and have it predict an image
    and scored; compute every further loss, with its gradients, on the same outputs of the head.

    Args:
        configs: the resolved configs of the plan, whose data and weights are there.
        work_dir: of the sweep, if it has the checked annotations.
        data: of the trials' ``trial.json``.

    Returns:
        What is wrong, a line each.
    """
    loaders: dict[str, DataLoader] = {}
    lines: dict[str, None] = {}
    with (
        DefaultScope.overwrite_default_scope(SCOPE),
        contextlib.redirect_stdout(io.StringIO()),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        for setting in _settings(configs):
            try:
                cfg = ConfigDict(copy.deepcopy(setting.config))
                if work_dir is not None:
                    use_checked(cfg, trial_folder(work_dir, "first"), data or {})
                lines |= dict.fromkeys(_check(cfg, setting.losses, loaders))
            except _WrongError as error:
                lines[str(error)] = None
    return list(lines)


def cause(error: Exception) -> str:
    """An exception in one line, without the frames that mmengine puts around it."""
    text = " ".join(str(error).split()) or type(error).__name__
    # "class `X` in path/to/module.py: cause"
    return re.sub(r"class `(\w+)` in [^ ]+: ", r"\1: ", text)


@contextlib.contextmanager
def _part(name: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise _WrongError(f"{name}: {cause(error)}"[:400]) from error


def _settings(configs: list[dict[str, Any]]) -> list[_Setting]:
    found: dict[str, _Setting] = {}
    for config in configs:
        head = config["model"].get("bbox_head")
        loss = head.get("loss_cls") if isinstance(head, dict) else None
        rest = config
        if isinstance(loss, dict):  # the head's outputs are sized by use_sigmoid
            head = {**head, "loss_cls": loss.get("use_sigmoid")}
            rest = {**config, "model": {**config["model"], "bbox_head": head}}
        setting = found.setdefault(json.dumps(rest, default=str), _Setting(config))
        if loss not in setting.losses:
            setting.losses.append(loss)
    return list(found.values())


def _check(cfg: ConfigDict, losses: list[Any], loaders: dict[str, DataLoader]) -> Iterator[str]:
    with _part("model"):
        model = MODELS.build(cfg.model).to(get_device())
    with _part(f"optim_wrapper with {(cfg.optim_wrapper.get('optimizer') or {}).get('type')}"):
        optimizer = build_optim_wrapper(model, cfg.optim_wrapper)
    with _part("param_scheduler"):
        for schedule in schedulers(cfg):
            _build_schedule(schedule, optimizer, cfg)
    with _part("hooks"):
        for hook in [*(cfg.get("default_hooks") or {}).values(), *(cfg.get("custom_hooks") or ())]:
            if isinstance(hook, dict):
                HOOKS.build(hook)
    with _part("the record's protocol"):
        fingerprint(cfg, 1)
    with _part("train_dataloader"):
        loader = _loader(cfg.train_dataloader, loaders)
        batch = _batch(loader, min(IMAGES, cfg.train_dataloader.batch_size))
    dataset: Any = loader.dataset
    _check_classes(model, dataset)
    outputs = _HeadOutputs(model)
    with _part(f"a training step with {_name(losses[0])}"):
        model.train()
        model.train_step(batch, optimizer)
    outputs.stop()
    for loss in losses[1:]:
        try:
            with _part(f"a training step with {_name(loss)}"):
                _try_loss(model, loss, outputs, batch, optimizer)
        except _WrongError as error:
            yield str(error)  # the next loss may be wrong too
    _check_prediction(model, cfg, loaders)


def _build_schedule(schedule: Any, optimizer: Any, cfg: ConfigDict) -> None:
    """As mmengine's Runner builds it; an epoch of the trial's loop is all its iterations."""
    iterations = cfg.train_cfg.max_iters
    end = 1 if schedule.get("by_epoch", True) else iterations
    PARAM_SCHEDULERS.build(
        {"end": end, **schedule}, default_args={"optimizer": optimizer, "epoch_length": iterations}
    )


def _loader(config: ConfigDict, known: dict[str, DataLoader]) -> DataLoader:
    key = json.dumps(config, sort_keys=True, default=str)
    if key not in known:
        known[key] = Runner.build_dataloader(config, seed=0)
    return known[key]


def _batch(loader: DataLoader, images: int) -> Any:
    """The loader's first images, read in this process: no worker is started."""
    indices = itertools.islice(iter(loader.sampler), images)
    return loader.collate_fn([loader.dataset[index] for index in indices])


def _check_classes(model: nn.Module, dataset: Any) -> None:
    classes = dataset.metainfo.get("classes")
    for head in heads(model):
        given = getattr(head.module, "num_classes", None)
        agnostic = head.path == "rpn_head"  # an object or none
        if given is not None and classes is not None and not agnostic and given != len(classes):
            raise _WrongError(
                f"model.{head.path}.num_classes is {given}, and the data has {len(classes)} classes"
            )


class _HeadOutputs:
    """Keeps what the head was given and what it put out, so that other losses can be tried on it
    without running the network again."""

    def __init__(self, model: nn.Module) -> None:
        self.inputs: tuple[Any, ...] | None = None
        self.outputs: Any = None
        head = getattr(model, "bbox_head", None)
        self._handle = head.register_forward_hook(self._keep) if head is not None else None

    def _keep(self, _head: nn.Module, inputs: tuple[Any, ...], outputs: Any) -> None:
        self.inputs, self.outputs = inputs, outputs

    def stop(self) -> None:
        if self._handle is not None:
            self._handle.remove()

    def leaves(self, *_args: Any, **_kwargs: Any) -> Any:
        """The outputs, cut off from the network, to take gradients at; for ``Module.forward``."""
        return _leaves(self.outputs)


def _leaves(node: Any) -> Any:
    if isinstance(node, Tensor):
        return node.detach().requires_grad_(node.requires_grad)
    if isinstance(node, list | tuple):
        return type(node)(_leaves(item) for item in node)
    return node


def _try_loss(model: Any, loss: Any, outputs: _HeadOutputs, batch: Any, optimizer: Any) -> None:
    head = model.bbox_head
    head.loss_cls = MODELS.build(ConfigDict(loss)).to(get_device())
    if outputs.inputs is None:  # the head is not called as a module
        model.train_step(batch, optimizer)
        return
    samples = model.data_preprocessor(batch, True)["data_samples"]
    head.forward = outputs.leaves
    try:
        with optimizer.optim_context(model):
            total, _ = model.parse_losses(head.loss(*outputs.inputs, samples))
        total.backward()
    finally:
        del head.forward


def _check_prediction(model: Any, cfg: ConfigDict, loaders: dict[str, DataLoader]) -> None:
    with _part("val_dataloader"):
        loader = _loader(cfg.val_dataloader, loaders)
        batch = _batch(loader, 1)
    dataset: Any = loader.dataset
    _check_classes(model, dataset)
    with _part("a prediction on a validation image"), torch.no_grad():
        model.eval()
        predicted = model.val_step(batch)
    with _part("val_evaluator"):
        evaluator = Evaluator(cfg.val_evaluator)
        evaluator.dataset_meta = dataset.metainfo
        evaluator.process(predicted, batch)


def _name(loss: Any) -> str:
    if not isinstance(loss, dict):
        return "the config's loss"
    values = ", ".join(f"{k}={v}" for k, v in loss.items() if k not in ("type", "use_sigmoid"))
    return f"{loss['type']}({values})"
