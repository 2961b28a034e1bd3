"""A trial's ``config.py``: a resolved OpenMMLab config, written out as plain Python values."""

import pprint
from typing import Any


def config_text(config: dict[str, Any], known: dict[int, str] | None = None) -> str:
    """A config as a Python file that mmengine reads back to the same values.

    Args:
        config: the config.
        known: formatted values by ``id(value)``, filled by this function. Pass the same dict for
            several configs to format the parts they share once; the configs must outlive it.
    """
    known = {} if known is None else known
    lines = []
    for key, value in config.items():
        if id(value) not in known:
            known[id(value)] = pprint.pformat(value, width=100, sort_dicts=False)
        lines.append(f"{key} = {known[id(value)]}")
    return "\n".join(lines) + "\n"


def output_head(config: Any) -> dict[str, Any]:
    """The config of the head whose classes the detector puts out; empty if none is known."""
    model = config.get("model") or {}
    for owner in (model, model.get("roi_head")):
        head = owner.get("bbox_head") if isinstance(owner, dict) else None
        head = head[-1] if isinstance(head, list | tuple) and head else head
        if isinstance(head, dict):
            return head
    return {}


def classification_loss(config: Any) -> dict[str, Any]:
    """The config of ``loss_cls`` of ``output_head``; empty if it has none, as SSD's."""
    loss = output_head(config).get("loss_cls")
    return loss if isinstance(loss, dict) else {}


def inner_dataset(dataset: Any) -> Any:
    """The config of the data set itself, without the data sets that wrap it."""
    while "dataset" in dataset:
        dataset = dataset["dataset"]
    return dataset


def schedulers(config: Any) -> list[Any]:
    """The configs of the schedules in ``param_scheduler``, which may be one, several or none."""
    found = config.get("param_scheduler")
    return [found] if isinstance(found, dict) else list(found or [])
