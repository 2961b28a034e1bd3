"""Pretrained weights, fetched before the first trial starts."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from mmengine.runner.checkpoint import CheckpointLoader


def missing_weights(configs: Iterable[dict[str, Any]]) -> list[str]:
    """A line for every checkpoint that the configs begin from and that cannot be read.

    Weights that are named by a URL or a model zoo are downloaded into torch's cache, once for all
    trials; those that are there already are not touched.
    """
    names: dict[str, None] = {}
    seen = set()
    for config in configs:
        part = {key: config.get(key) for key in ("model", "load_from")}
        text = json.dumps(part, sort_keys=True, default=str)
        if text not in seen:
            seen.add(text)
            names |= dict.fromkeys(_named(part))
    return [line for name in names if (line := _problem(name))]


def _named(node: Any) -> Iterator[str]:
    """Every checkpoint named below ``node``."""
    if isinstance(node, dict):
        if node.get("type") == "Pretrained" and node.get("checkpoint"):
            yield node["checkpoint"]
        if isinstance(node.get("load_from"), str):
            yield node["load_from"]
        for value in node.values():
            yield from _named(value)
    elif isinstance(node, list | tuple):
        for item in node:
            yield from _named(item)


def _problem(name: str) -> str | None:
    local = "://" not in name
    if local and Path(name).is_file():
        return None
    try:
        if local:
            raise FileNotFoundError("there is no such file")
        CheckpointLoader.load_checkpoint(name, map_location="cpu", logger="silent")
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        line = f"the pretrained weights {name} are missing: {reason}"
        if not local:
            cache = Path(torch.hub.get_dir()) / "checkpoints"
            line += f"; put the file into {cache}, or name a local one in its place"
        return line
    return None
