"""From a grid, a config and seeds to trials, each with an id that hashes what changes its result.

Planning reads files and nothing else: no data, no torch. Of pretrained weights it reads the file,
since a trial's id hashes what is in it.
"""

import ast
import copy
import hashlib
import json
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablations.store.code import user_code
from ablations.store.config import inner_dataset
from ablations.store.weights import content, is_pretrained
from ablations.sweep.config_files import check_settable, taken_from_files
from ablations.sweep.config_files import load_config as load_config
from ablations.sweep.errors import UsageError, one_of
from ablations.sweep.grid import Grid, Point
from ablations.sweep.option_types import ABSENT, check_type, value_at
from ablations.sweep.plain_values import check_kind, check_plain
from ablations.sweep.schedule import (
    SMOKE_IMAGES,
    SMOKE_ITERATIONS,
    iterations_of,
    rescale,
    scale_to_batch,
)

# The parts of a config that can change a result; everything else stays out of the id.
_RELEVANT = (
    "dataset_info",
    "model",
    "train_dataloader",
    "val_dataloader",
    "val_evaluator",
    "train_cfg",
    "optim_wrapper",
    "param_scheduler",
    "randomness",
    "load_from",
    "custom_hooks",
)
# What says where things lie or how fast they go, by its place in the config: the same name
# elsewhere (a loss's own parameter) counts.
_DATASET = r"(train|val)_dataloader\.dataset(\.dataset|\.datasets\.\d+)*"
_IRRELEVANT = re.compile(
    "|".join(
        (
            r"dataset_info\.(builder|group_key)",
            r"(train|val)_dataloader\."
            r"(num_workers|persistent_workers|pin_memory|prefetch_factor)",
            _DATASET + r"\.(data_root|backend_args|limit_mb|prefix_mb)",
            _DATASET + r"\.pipeline\.\d+(\.transforms\.\d+)*\.backend_args",
            r"val_evaluator\.(ann_file|backend_args|outfile)",  # the annotations have a checksum
            r"model\.bbox_head\.cache_images",
        )
    )
)
# Hooks that watch a trial without touching its result.
_WATCHERS = {
    "LossCurveHook",
    "ProgressHook",
    "ProbabilityHook",
    "ImbalanceHook",
    "ResumableCheckpointHook",
    "SharedPrefixHook",
}


@dataclass(frozen=True)
class Trial:
    """One trial as planned: the resolved config is ``config``, its hash the ``id``."""

    id: str
    point: Point
    seed: int
    config: dict[str, Any]
    identity: dict[str, Any]  # what the id hashes


def parse_options(pairs: Sequence[str], flag: str = "--cfg-options") -> dict[str, Any]:
    """A flag's ``path=value`` pairs; values are Python literals, anything else is a string.

    Raises:
        UsageError: a pair has no ``=``.
    """
    options = {}
    for pair in pairs:
        path, separator, text = pair.partition("=")
        if not separator or not path:
            raise UsageError(f"{flag} takes PATH=VALUE, not {pair!r}")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                options[path] = ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            options[path] = {"true": True, "false": False, "none": None}.get(text.lower(), text)
        check_plain(f"{flag} {path}", options[path])
    return options


def override(config: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """``config`` with ``value`` at a dotted path; only what lies on the path is copied.

    Args:
        path: where; a ``+`` before it allows its last key to be new.

    Raises:
        UsageError: the path does not exist in the config; the message names the keys that do.
    """
    path, new = path.removeprefix("+"), path.startswith("+")
    return _override(config, path.split("."), value, path, new)


def _override(node: Any, keys: list[str], value: Any, path: str, new: bool) -> Any:
    key, rest = keys[0], keys[1:]
    if isinstance(node, list | tuple):
        if not key.isdigit() or int(key) >= len(node):
            raise UsageError(f"{path}: {key!r} is not an index of a list of {len(node)}")
        items = list(node)
        items[int(key)] = _override(items[int(key)], rest, value, path, new) if rest else value
        return items
    if not isinstance(node, dict):
        raise UsageError(f"{path}: there is nothing below {node!r} for {key!r}")
    if key not in node and (rest or not new):
        raise UsageError(f"{path}: " + one_of("key", key, sorted(map(str, node))))
    return {**node, key: _override(node[key], rest, value, path, new) if rest else value}


def prepare_config(
    config: dict[str, Any], options: dict[str, Any], gpus_per_trial: int, smoke: bool
) -> dict[str, Any]:
    """The base of all trials: options applied, schedule matched to the batch, cut down for smoke.

    Raises:
        UsageError: an option's path does not exist or its value is of another type than what it
            replaces, the config is none of a trial, or its schedule cannot follow the batch.
    """
    check_shape(config)
    for path, value in options.items():
        check_settable(config, path.removeprefix("+"))
        old = value_at(config, path.removeprefix("+"))
        config = override(config, path, check_type(path, old, value))
    check_shape(config)
    iterations_of(config)  # or it is refused
    evaluator = config.get("val_evaluator")
    if not isinstance(evaluator, dict) or evaluator.get("type") != "BoxAP":
        found = evaluator.get("type") if isinstance(evaluator, dict) else evaluator
        raise UsageError(f"the config's val_evaluator is {found}; sweeps are scored by BoxAP")
    config = scale_to_batch(config, gpus_per_trial)
    if smoke:
        config = rescale(config, SMOKE_ITERATIONS)
        config = _limit_images(config, SMOKE_IMAGES)
    return config


def _limit_images(config: dict[str, Any], images: int) -> dict[str, Any]:
    config = copy.deepcopy(config)
    inner_dataset(config["val_dataloader"]["dataset"])["indices"] = images
    return config


Reduced = dict[tuple[int, str], tuple[Any, Any]]
"""Parts of configs, by their id and place: the part (so that it stays alive) and what the trial id
sees of it. Trials share most of their parts."""


def plan(config: dict[str, Any], grid: Grid, seeds: Sequence[int]) -> Iterator[Trial]:
    """All trials, seed by seed, so that a sweep cut short has whole seeds.

    Raises:
        UsageError: the grid sets a path that the config does not have, a module that the config
            imports is not there, or a file of pretrained weights is missing or has changed.
    """
    files: dict[str, dict[str, Any]] = {}
    resolved = [_resolved(config, point, files) for point in grid.points]
    reduced: Reduced = {}
    code = [_user_code(own, reduced) for own in resolved]
    for seed in seeds:
        for point, own, modules in zip(grid.points, resolved, code, strict=True):
            seeded = _seeded(own, seed)
            identity = _identity(seeded, reduced)
            if modules:
                identity["code"] = modules
            yield Trial(trial_id(identity), point, seed, seeded, identity)


def _user_code(config: dict[str, Any], known: Reduced) -> dict[str, str]:
    """``user_code`` of a config, found once for configs that share their imports."""
    imports = config.get("custom_imports")
    place = id(imports), "custom_imports"
    if place not in known:
        try:
            known[place] = imports, user_code(config)
        except ModuleNotFoundError as error:
            raise UsageError(
                f"custom_imports: {error}, neither in the current folder nor where Python looks"
            ) from error
    found: dict[str, str] = known[place][1]
    return found


def _resolved(
    config: dict[str, Any], point: Point, files: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    for path, value in point.overrides.items():
        check_settable(config, path.removeprefix("+"))
        config = override(config, path, taken_from_files(path.removeprefix("+"), value, files))
    check_shape(config)
    iterations_of(config)
    return config


_DICTS = (
    *("model", "train_dataloader", "train_dataloader.dataset", "val_dataloader", "train_cfg"),
    *("val_dataloader.dataset", "val_evaluator", "optim_wrapper", "optim_wrapper.optimizer"),
    *("randomness", "dataset_info", "expected_cost", "auto_scale_lr", "custom_imports"),
)


def check_shape(config: dict[str, Any]) -> None:
    """Refuse a config whose parts are not what planning takes them for; absent ones are allowed.

    Raises:
        UsageError: one line names the part, what it is and what it must be.
    """
    for path in _DICTS:
        if (found := value_at(config, path)) not in (ABSENT, None):
            check_kind(f"the config's {path}", found, dict)
    for path in ("train_cfg.max_iters", "train_dataloader.batch_size"):
        if (found := value_at(config, path)) is not ABSENT and (
            check_kind(f"the config's {path}", found, int) < 1
        ):
            raise UsageError(f"the config's {path} is {found}; it must be at least 1")
    hooks = config.get("custom_hooks") or []
    schedules = config.get("param_scheduler") or []
    for name, rows in (("custom_hooks", hooks), ("param_scheduler", schedules)):
        if name == "param_scheduler" and isinstance(rows, dict):
            continue
        for row in check_kind(f"the config's {name}", rows, list, tuple):
            check_kind(f"the config's {name}: an item", row, dict)


def _seeded(config: dict[str, Any], seed: int) -> dict[str, Any]:
    config = {**config, "randomness": {**config.get("randomness", {}), "seed": seed}}
    if config.get("train_dataloader", {}).get("dataset", {}).get("type") == "StreamDataset":
        config = override(config, "+train_dataloader.dataset.seed", seed)
    return config


def with_seed(trial: Trial, seed: int, reduced: Reduced) -> Trial:
    """The same point with another seed; ``reduced`` is shared by calls for trials of one plan."""
    config = _seeded(trial.config, seed)
    code = {"code": trial.identity["code"]} if "code" in trial.identity else {}
    identity = _identity(config, reduced) | code
    return Trial(trial_id(identity), trial.point, seed, config, identity)


def trial_id(identity: dict[str, Any]) -> str:
    """Twelve hexadecimal digits of the SHA-256 of what changes a trial's result."""
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _identity(config: dict[str, Any], reduced: Reduced) -> dict[str, Any]:
    kept = {key: config[key] for key in _RELEVANT if config.get(key) is not None}
    if "custom_hooks" in kept:
        hooks = [hook for hook in kept["custom_hooks"] if hook.get("type") not in _WATCHERS]
        kept["custom_hooks"] = hooks
    if isinstance(kept.get("load_from"), str):
        kept["load_from"] = _content(kept["load_from"])
    if "dataset_info" not in kept:
        wrapped = config.get("train_dataloader", {}).get("dataset", {})
        root = inner_dataset(wrapped).get("data_root")
        kept["dataset_info"] = {"name": Path(root).name if root else "unnamed"}
    return {key: _without(value, key, reduced) for key, value in kept.items()}


def _content(checkpoint: str) -> str:
    try:
        return content(checkpoint)
    except ValueError as error:
        raise UsageError(str(error)) from error


def _without(node: Any, path: str, reduced: Reduced) -> Any:
    """``node``, which stands at ``path``, without what cannot change a result."""
    if isinstance(node, dict | list | tuple):
        known = id(node), path
        if known not in reduced:
            if isinstance(node, dict):
                less: Any = {
                    str(key): _without(value, f"{path}.{key}", reduced)
                    for key, value in node.items()
                    if not _IRRELEVANT.fullmatch(f"{path}.{key}")
                }
                if is_pretrained(node):
                    less["checkpoint"] = _content(node["checkpoint"])
            else:
                less = [_without(item, f"{path}.{i}", reduced) for i, item in enumerate(node)]
            reduced[known] = node, less
        return reduced[known][1]
    if isinstance(node, int) and not isinstance(node, bool):
        return float(node) if abs(node) < 2**53 else node  # gamma=2 and gamma=2.0 are one trial
    return node


def config_differences(old: Any, new: Any, path: str = "") -> list[str]:
    """``path: old -> new`` wherever two configs differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        lines = []
        for key in [*old, *(key for key in new if key not in old)]:
            inner = f"{path}.{key}" if path else str(key)
            lines += config_differences(old.get(key), new.get(key), inner)
        return lines
    return [] if old == new else [f"{path}: {old!r} -> {new!r}"]
