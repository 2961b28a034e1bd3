"""Everything that can be wrong with a plan, found before its first trial starts."""

import importlib
import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from filelock import FileLock
from mmdet.registry import MODELS
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope

import ablations.training  # noqa: F401 - registers what the configs name
from ablations.sweep.files import sha256

SCOPE = "mmdet"


def check(configs: list[dict[str, Any]]) -> dict[str, Any]:
    """Build every distinct loss and detector once, and look at the data.

    Args:
        configs: the resolved configs of the plan; those that differ in the seed alone may be left
            out.

    Returns:
        ``errors``: one line each, empty when all is well; ``notes``: lines to print; ``data``: the
        record's ``data`` with the path of each annotation file.
    """
    notes: list[str] = []
    try:
        _import_custom(configs)
        errors = _distinct(_loss_errors(configs))
        if not errors:
            errors = _distinct(_model_errors(configs))
        data = _data(configs[0], notes) if not errors else {}
    except (ValueError, OSError, ImportError) as error:
        return {"errors": [" ".join(str(error).split())], "notes": notes, "data": {}}
    return {"errors": errors, "notes": notes, "data": data}


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
            text = " ".join(str(error).split())
            # mmengine wraps the cause: "class `X` in path/to/module.py: cause".
            text = re.sub(r"^class `(\w+)` in [^ ]+: ", r"\1: ", text)
            yield f"{value.get('type')}: {text.removeprefix(value.get('type') + ': ')}"


def _loss_errors(configs: list[dict[str, Any]]) -> Iterable[str]:
    return _once_each((loss for cfg in configs for loss in _losses(cfg["model"])), MODELS.build)


def _model_errors(configs: list[dict[str, Any]]) -> Iterable[str]:
    """Build each detector, whatever its loss, without loading weights."""

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
        ValueError: mmdet would size its classifier for a softmax, though its loss is a sigmoid's.
    """
    loss = model.get("bbox_head", {}).get("loss_cls", {})
    head = MODELS.build(model).bbox_head
    needed, given = getattr(head, "num_classes", None), getattr(head, "cls_out_channels", None)
    if getattr(head.loss_cls, "use_sigmoid", False) and needed != given:
        raise ValueError(
            f"loss_cls of type {loss.get('type')} needs use_sigmoid=True in its config, "
            f"or mmdet gives the head {given} outputs for {needed} classes"
        )


def _data(config: dict[str, Any], notes: list[str]) -> dict[str, Any]:
    """Make the embedded data if the config asks for it; check and hash the annotations.

    Raises:
        ValueError: a data set is not in COCO format; the message names the file.
    """
    info = config.get("dataset_info", {})
    root = Path(config.get("data_root") or _inner(config["train_dataloader"])["data_root"])
    if info.get("builder"):
        module, function = info["builder"].split(":")
        build = getattr(importlib.import_module(module), function)
        root.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(root.with_name(f".{root.name}.lock")):
            if line := build(root):
                notes.append(line)
    data: dict[str, Any] = {"name": info.get("name", root.name), "version": info.get("version")}
    for split in ("train", "val"):
        dataset = _inner(config[f"{split}_dataloader"])
        data[split] = _check_coco(dataset)
    data["classes"] = list(_inner(config["val_dataloader"]).get("metainfo", {}).get("classes", []))
    return data


def _inner(loader: dict[str, Any]) -> dict[str, Any]:
    dataset = loader["dataset"]
    while "dataset" in dataset:
        dataset = dataset["dataset"]
    return dataset


def _check_coco(dataset: dict[str, Any]) -> dict[str, Any]:
    root = Path(dataset.get("data_root") or ".")
    path = root / dataset["ann_file"]
    if not path.is_file():
        raise ValueError(f"{path} does not exist: {root} is not a data set in COCO format")
    try:
        content = json.loads(path.read_bytes())
        missing = [key for key in ("images", "annotations", "categories") if key not in content]
    except ValueError:
        raise ValueError(f"{path} is not JSON, let alone COCO annotations") from None
    except TypeError:
        missing = ["images"]
    if missing:
        raise ValueError(f"{path} is not in COCO format: it has no {', '.join(missing)!r}")
    names = {category["name"] for category in content["categories"]}
    classes = dataset.get("metainfo", {}).get("classes", ())
    if unknown := [name for name in classes if name not in names]:
        raise ValueError(f"{path} has no class {unknown[0]!r}; it has {', '.join(sorted(names))}")
    images = root / dataset.get("data_prefix", {}).get("img", "")
    for image in content["images"][:: max(1, len(content["images"]) // 100)]:
        if not (images / image["file_name"]).is_file():
            raise ValueError(f"{images / image['file_name']}, an image of {path}, does not exist")
    return {
        "file": str(path),
        "images_dir": str(images),
        "annotations": sha256(path),
        "images": len(content["images"]),
        "boxes": len(content["annotations"]),
    }
