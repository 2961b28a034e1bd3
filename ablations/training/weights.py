"""Pretrained weights, fetched before the first trial starts."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from mmengine.runner.checkpoint import CheckpointLoader

from ablations.store.weights import content, is_local, named_checkpoints


def missing_weights(configs: Iterable[dict[str, Any]]) -> list[str]:
    """A line for every checkpoint that the configs begin from and that cannot be read.

    Weights named by a URL or a model zoo are downloaded into torch's cache, once for all trials.
    """
    names: dict[str, None] = {}
    seen = set()
    for config in configs:
        part = {key: config.get(key) for key in ("model", "load_from")}
        text = json.dumps(part, sort_keys=True, default=str)
        if text not in seen:
            seen.add(text)
            names |= dict.fromkeys(named_checkpoints(part))
    return [line for name in names if (line := _problem(name))]


def check_unchanged(config: dict[str, Any], identity: dict[str, Any]) -> None:
    """Refuse files of weights that are not what a trial was planned with.

    Raises:
        ValueError: a file is missing or has changed; the message names it.
    """
    planned = json.dumps(identity)
    for name in named_checkpoints({key: config.get(key) for key in ("model", "load_from")}):
        if is_local(name) and content(name) not in planned:
            raise ValueError(f"{name} has changed since the trial was planned")


def _problem(name: str) -> str | None:
    if is_local(name):
        try:
            content(name)
        except ValueError as error:
            return str(error)
        return None
    try:
        CheckpointLoader.load_checkpoint(name, map_location="cpu", logger="silent")
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        cache = Path(torch.hub.get_dir()) / "checkpoints"
        return (
            f"the pretrained weights {name} are missing: {reason}; put the file into {cache}, or "
            "name a local one in its place"
        )
    return None
