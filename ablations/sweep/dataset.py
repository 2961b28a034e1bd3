"""The data set that a plan names: made if it can be, checked and hashed, without torch."""

import importlib
import json
from pathlib import Path
from typing import Any

from filelock import FileLock

from ablations.store.config import inner_dataset
from ablations.store.files import sha256


def check_data(config: dict[str, Any]) -> dict[str, Any]:
    """Make the embedded data if the config asks for it; check and hash the annotations.

    Returns:
        ``errors``: one line each, empty when all is well; ``notes``: lines to print; ``data``: the
        record's ``data`` with the path of each annotation file.
    """
    notes: list[str] = []
    try:
        data = _data(config, notes)
    except (ValueError, OSError, ImportError) as error:
        return {"errors": [" ".join(str(error).split())], "notes": notes, "data": {}}
    return {"errors": [], "notes": notes, "data": data}


def _data(config: dict[str, Any], notes: list[str]) -> dict[str, Any]:
    info = config.get("dataset_info", {})
    root = Path(
        config.get("data_root") or inner_dataset(config["train_dataloader"]["dataset"])["data_root"]
    )
    if info.get("builder"):
        module, function = info["builder"].split(":")
        build = getattr(importlib.import_module(module), function)
        root.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(root.with_name(f".{root.name}.lock")):
            if line := build(root):
                notes.append(line)
    data: dict[str, Any] = {"name": info.get("name", root.name), "version": info.get("version")}
    for split in ("train", "val"):
        dataset = inner_dataset(config[f"{split}_dataloader"]["dataset"])
        data[split] = _check_coco(dataset)
    val = inner_dataset(config["val_dataloader"]["dataset"])
    if key := info.get("group_key"):
        _check_group_key(data["val"]["file"], key)
        data["group_key"] = key
    data["classes"] = list(val.get("metainfo", {}).get("classes", []))
    return data


def _check_group_key(file: str, key: str) -> None:
    """Refuse a key that no validation image has.

    Raises:
        ValueError: so it is; the message names the keys there are.
    """
    images = json.loads(Path(file).read_bytes())["images"]
    if not any(image.get(key) is not None for image in images):
        there = ", ".join(sorted({name for image in images for name in image}))
        raise ValueError(
            f"dataset_info.group_key is {key!r}, which no image of {file} has; they have {there}"
        )


def annotation_checksums(config: dict[str, Any]) -> dict[str, str]:
    """SHA-256 of the annotations by split, of those that are there yet."""
    found = {}
    for split in ("train", "val"):
        path = _annotations(inner_dataset(config[f"{split}_dataloader"]["dataset"]))
        if path.is_file():
            found[split] = sha256(path)
    return found


def _annotations(dataset: dict[str, Any]) -> Path:
    return Path(dataset.get("data_root") or ".") / dataset["ann_file"]


def _check_coco(dataset: dict[str, Any]) -> dict[str, Any]:
    root = Path(dataset.get("data_root") or ".")
    path = _annotations(dataset)
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
