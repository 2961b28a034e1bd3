"""The data set that a plan names: made if it can be, checked and hashed, without torch."""

import importlib
from pathlib import Path
from typing import Any

from filelock import FileLock

from ablations.data.coco import COCO_CLASSES, VERSION, Checked, Split, check, keep
from ablations.store.config import inner_dataset
from ablations.store.files import sha256

SPLITS = ("train", "val")


def check_data(
    config: dict[str, Any], work_dir: Path | None = None, check_images: bool = False
) -> dict[str, Any]:
    """Make the embedded data if the config asks for it; check the annotations and their images.

    Args:
        config: of any trial of the plan.
        work_dir: the sweep's; gets the checked annotations, once both files have passed.
        check_images: decode all images, however long that takes.

    Returns:
        ``errors``: one line a file, empty when all is well; ``notes``: lines to print; ``data``:
        the record's ``data`` with the path of each annotation file.
    """
    notes: list[str] = []
    try:
        data, errors = _data(config, notes, work_dir, check_images)
    except (ValueError, OSError, ImportError) as error:
        return {"errors": [" ".join(str(error).split())], "notes": notes, "data": {}}
    return {"errors": errors, "notes": notes, "data": {} if errors else data}


def _data(
    config: dict[str, Any], notes: list[str], work_dir: Path | None, check_images: bool
) -> tuple[dict[str, Any], list[str]]:
    info = config.get("dataset_info", {})
    root = Path(
        config.get("data_root") or inner_dataset(config["train_dataloader"]["dataset"])["data_root"]
    )
    decode = True if check_images else None
    if info.get("builder"):
        module, function = info["builder"].split(":")
        build = getattr(importlib.import_module(module), function)
        root.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(root.with_name(f".{root.name}.lock")):
            if line := build(root):
                notes.append(line)
        decode = check_images  # what it makes is whole: it compares names and sizes
    checked: dict[str, Checked] = {}
    for split in SPLITS:
        names = _classes(config)
        if names is None and "train" in checked:
            names = checked["train"].classes or None
        checked[split] = check(_split(config, split, names), decode)
        notes += [f"{checked[split].split.file}: {note}" for note in checked[split].notes]
    if errors := [part.error for part in checked.values() if part.error]:
        return {}, errors
    notes += _shared_images(checked) + _other_evaluator(config)
    data: dict[str, Any] = {"name": info.get("name", root.name), "version": info.get("version")}
    for split, part in checked.items():
        data[split] = {
            "file": str(part.split.file),
            "images_dir": str(part.split.images_dir),
            # Of what is trained on and scored: the checked file, annotations-<sha256>.json.
            "annotations": keep(part, work_dir),
            "source": part.source,  # SHA-256 of ``file``
            "checker": VERSION,
            "mended": part.notes if part.changed else [],
            "images": len((part.content or {})["images"]),
            "boxes": part.boxes,
            "crowds": part.crowds,
        }
    if key := info.get("group_key"):
        _check_group_key(checked["val"], key)
        data["group_key"] = key
    data["classes"] = list(_named_classes(config, "val") or ())
    return data, []


def _classes(config: dict[str, Any]) -> tuple[Any, ...] | None:
    """The classes that both data sets of the config are of, or ``None`` where it names none.

    Raises:
        ValueError: the config's classes are no list of names, or not the same for both.
    """
    train, val = (_named_classes(config, split) for split in SPLITS)
    if train != val:
        raise ValueError(
            f"the config's train_dataloader has the classes {train} and its val_dataloader {val}: "
            "give both the same metainfo"
        )
    if train is None:
        types = {_dataset(config, split).get("type") for split in SPLITS}
        return COCO_CLASSES if types <= {"CocoDataset", "mmdet.CocoDataset"} else None
    if twice := sorted({str(name) for name in train if train.count(name) > 1}):
        raise ValueError(f"the config's classes have {', '.join(twice)} twice: name each once")
    return train


def _named_classes(config: dict[str, Any], split: str) -> tuple[Any, ...] | None:
    classes = (_dataset(config, split).get("metainfo") or {}).get("classes")
    if isinstance(classes, str):
        raise ValueError(
            f"the config's classes are the text {classes!r}: write a list, as in ({classes!r},)"
        )
    return tuple(classes) if classes else None


def _dataset(config: dict[str, Any], split: str) -> dict[str, Any]:
    found: dict[str, Any] = inner_dataset(config[f"{split}_dataloader"]["dataset"])
    if not isinstance(found.get("ann_file"), str) or not found["ann_file"]:
        raise ValueError(
            f"the config's {split}_dataloader has no data set with one ann_file (of type "
            f"{found.get('type')}): merge the files of several into one"
        )
    return found


def _split(config: dict[str, Any], split: str, classes: tuple[Any, ...] | None) -> Split:
    dataset = _dataset(config, split)
    root = Path(dataset.get("data_root") or ".")
    steps = dataset.get("pipeline") or []
    return Split(
        file=_annotations(dataset),
        images_dir=root / (dataset.get("data_prefix") or {}).get("img", ""),
        train=split == "train",
        classes=classes,
        min_size=(dataset.get("filter_cfg") or {}).get("min_size", 0),
        masks=any(step.get("with_mask") or step.get("with_seg") for step in steps),
    )


def _shared_images(checked: dict[str, Checked]) -> list[str]:
    train, val = ({str(Path(path).absolute()) for path in checked[split].paths} for split in SPLITS)
    if not (both := train & val):
        return []
    return [f"{len(both)} of {len(val)} validation images are trained on too ({min(both)}, ...)"]


def _other_evaluator(config: dict[str, Any]) -> list[str]:
    named = (config.get("val_evaluator") or {}).get("ann_file")
    used = _annotations(_dataset(config, "val"))
    if named is None or Path(named).resolve() == used.resolve():
        return []
    return [f"val_evaluator.ann_file {named} is not read: AP is that of {used}"]


def _check_group_key(val: Checked, key: str) -> None:
    """Refuse a key that no validation image has.

    Raises:
        ValueError: no image has it; the message names the keys there are.
    """
    images = (val.content or {})["images"]
    if not any(image.get(key) is not None for image in images):
        there = ", ".join(sorted({name for image in images for name in image}))
        raise ValueError(
            f"dataset_info.group_key is {key!r}, which no image of {val.split.file} has; they have "
            f"{there}"
        )


def annotation_checksums(config: dict[str, Any]) -> dict[str, str]:
    """SHA-256 of the annotations by split as they are found, of those that are there yet."""
    found = {}
    for split in SPLITS:
        path = _annotations(inner_dataset(config[f"{split}_dataloader"]["dataset"]))
        if path.is_file():
            found[split] = sha256(path)
    return found


def _annotations(dataset: dict[str, Any]) -> Path:
    return Path(dataset.get("data_root") or ".") / dataset["ann_file"]
