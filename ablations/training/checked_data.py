"""The checked annotation files of a sweep, put in place of those that a config names."""

from pathlib import Path
from typing import Any

from mmengine.config import Config

from ablations.data.coco import file_name
from ablations.store.config import inner_dataset
from ablations.store.files import sha256

SPLITS = ("train", "val")


def use_checked(cfg: Config, folder: Path, data: dict[str, Any]) -> None:
    """Have the config of the trial in ``folder`` read the sweep's checked annotations.

    A trial that was planned before annotations were checked reads the file that its config names.

    Args:
        cfg: is changed: the data sets' files, and that of the evaluator.
        folder: the trial's, two below the sweep's work directory.
        data: of its ``trial.json``.
    """
    for split in SPLITS:
        part = data.get(split, {})
        if "source" not in part:
            continue
        path = str(_checked(folder, part).resolve())  # absolute: a data set joins it to its root
        inner_dataset(cfg[f"{split}_dataloader"]["dataset"])["ann_file"] = path
        if split == "val":
            cfg["val_evaluator"]["ann_file"] = path


def refuse_other_data(folder: Path, data: dict[str, Any]) -> None:
    """Refuse data that is not what the trial in ``folder`` was planned on.

    Raises:
        ValueError: an annotation file has changed or is gone; the message names it.
    """
    for split in SPLITS:
        part = data.get(split)
        if not part:
            continue
        wanted = [(Path(part["file"]), part.get("source", part["annotations"]))]
        if "source" in part:
            wanted.append((_checked(folder, part), part["annotations"]))
        for path, digest in wanted:
            if not path.is_file():
                raise ValueError(f"{path}, which the trial was planned on, is gone")
            if sha256(path) != digest:
                raise ValueError(f"{path} has changed since the trial was planned")


def _checked(folder: Path, part: dict[str, Any]) -> Path:
    return folder.absolute().parents[1] / file_name(part["annotations"])
