"""Annotation files as people have them give the AP that the clean ones give, to the last digit.

The detector is the same for every case: fixed detections by image file and class. They go through
mmdet's data set and through BoxAP, which read the checked files as a trial does.
"""

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmdet.datasets import CocoDataset
from mmengine.config import Config

from ablations.sweep.dataset import check_data
from ablations.training.checked_data import use_checked
from ablations.training.metric import BoxAP

COUNTS = {"train": 12, "val": 30}
CLASSES = tuple("0123456789")

Data = dict[str, Any]
Change = Callable[[dict[str, Data]], None]


def annotations(change: Callable[[Data], Any], *splits: str) -> Change:
    def apply(data: dict[str, Data]) -> None:
        for split in splits or COUNTS:
            for annotation in data[split]["annotations"]:
                change(annotation)

    return apply


def images(change: Callable[[Data], Any], *splits: str) -> Change:
    def apply(data: dict[str, Data]) -> None:
        for split in splits or COUNTS:
            for image in data[split]["images"]:
                change(image)

    return apply


def renumbered(new: Callable[[int], Any]) -> Change:
    def apply(data: dict[str, Data]) -> None:
        for image in data["val"]["images"]:
            image["id"] = new(image["id"])
        for annotation in data["val"]["annotations"]:
            annotation["image_id"] = new(annotation["image_id"])

    return apply


def categories_reversed(data: dict[str, Data]) -> None:
    data["val"]["categories"].reverse()


def categories_reversed_in_both(data: dict[str, Data]) -> None:
    for part in data.values():
        part["categories"].reverse()


def categories_with_other_ids(data: dict[str, Data]) -> None:
    for category in data["val"]["categories"]:
        category["id"] = 100 - category["id"]
    for annotation in data["val"]["annotations"]:
        annotation["category_id"] = 100 - annotation["category_id"]


def category_twice(data: dict[str, Data]) -> None:
    for part in data.values():
        part["categories"].insert(0, {"id": 0, "name": "3"})


def more_categories(data: dict[str, Data]) -> None:
    data["train"]["categories"].insert(0, {"id": 50, "name": "letter"})
    box = data["train"]["annotations"][0] | {"id": 10**6, "category_id": 50}
    data["train"]["annotations"].append(box)


def annotation_id_twice(data: dict[str, Data]) -> None:
    data["val"]["annotations"][5]["id"] = data["val"]["annotations"][4]["id"]


def annotation_ids_from_0(data: dict[str, Data]) -> None:
    for place, annotation in enumerate(data["val"]["annotations"]):
        annotation["id"] = place


def annotations_of_no_image(data: dict[str, Data]) -> None:
    box = data["val"]["annotations"][0] | {"id": 10**6, "image_id": 10**6}
    data["val"]["annotations"].append(box)


def boxes_that_hold_nothing(data: dict[str, Data]) -> None:
    for part in data.values():
        first = part["annotations"][0]
        part["annotations"] += [
            first | {"id": 10**6, "bbox": [5, 5, 0, 10]},
            first | {"id": 10**6 + 1, "bbox": [200, 5, 10, 10]},
        ]


def no_sizes(image: Data) -> None:
    del image["width"], image["height"]


SAME: dict[str, Change] = {
    "base": lambda data: None,
    "extra keys": annotations(lambda a: a.update(segmentation=[], attributes={"occluded": 0})),
    "no iscrowd": annotations(lambda a: a.pop("iscrowd")),
    "no iscrowd in val": annotations(lambda a: a.pop("iscrowd"), "val"),
    "no area in val": annotations(lambda a: a.pop("area"), "val"),
    "no area in train": annotations(lambda a: a.pop("area"), "train"),
    "no ids of annotations": annotations(lambda a: a.pop("id")),
    "no image sizes": images(no_sizes),
    "no image sizes in val": images(no_sizes, "val"),
    "wrong image sizes": images(lambda i: i.update(width=0, height="96")),
    "another order in val": categories_reversed,
    "another order in both": categories_reversed_in_both,
    "other category ids in val": categories_with_other_ids,
    "a category twice": category_twice,
    "a category more in train": more_categories,
    "image ids above 2^53": renumbered(lambda id: 2**53 + id),
    "image ids of letters": renumbered(lambda id: f"a{id:04d}f"),
    "image ids as text": renumbered(str),
    "image ids as floats": renumbered(float),
    "an annotation id twice": annotation_id_twice,
    "annotation ids from 0": annotation_ids_from_0,
    "areas of 0 in train": annotations(lambda a: a.update(area=0), "train"),
    "areas of 0 in both": annotations(lambda a: a.update(area=0)),
    "areas as fractions": annotations(lambda a: a.update(area=a["area"] / 96**2)),
    "annotations of no image": annotations_of_no_image,
    "boxes that hold nothing": boxes_that_hold_nothing,
}


@pytest.fixture(scope="module")
def root(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few of the embedded images, with the annotations of each case to come."""
    root = tmp_path_factory.mktemp("wild")
    (root / "annotations").mkdir()
    for split, count in COUNTS.items():
        (root / split).mkdir()
        for image in json.loads((digits / "annotations" / f"{split}.json").read_text())["images"]:
            if image["id"] < count:
                shutil.copy(digits / split / image["file_name"], root / split)
    return root


@pytest.fixture(scope="module")
def clean(digits: Path) -> dict[str, Data]:
    data = {}
    for split, count in COUNTS.items():
        part = json.loads((digits / "annotations" / f"{split}.json").read_text())
        part["images"] = [image for image in part["images"] if image["id"] < count]
        part["annotations"] = [a for a in part["annotations"] if a["image_id"] < count]
        data[split] = part
    return data


def config(root: Path) -> dict[str, Any]:
    def dataset(split: str) -> dict[str, Any]:
        return dict(
            type="CocoDataset",
            data_root=f"{root}/",
            ann_file=f"annotations/{split}.json",
            data_prefix=dict(img=f"{split}/"),
            metainfo=dict(classes=CLASSES),
            pipeline=[],
        )

    return dict(
        data_root=f"{root}/",
        train_dataloader=dict(dataset=dict(dataset=dataset("train"))),
        val_dataloader=dict(dataset=dataset("val")),
        val_evaluator=dict(type="BoxAP", ann_file=f"{root}/annotations/val.json"),
    )


def checked(root: Path, data: dict[str, Data], work_dir: Path) -> dict[str, Any]:
    """What the check says of the case; its files are in ``work_dir``."""
    for split, part in data.items():
        (root / "annotations" / f"{split}.json").write_text(json.dumps(part))
    return check_data(config(root), work_dir)


def outcome(root: Path, work_dir: Path, answer: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """What a trial trains on, image by image, and the AP of the fixed detector."""
    cfg = Config(config(root))
    use_checked(cfg, work_dir / "trials" / "0", answer["data"])
    parts = {}
    for split, wanted in (("train", cfg.train_dataloader.dataset), ("val", cfg.val_dataloader)):
        options = {key: value for key, value in wanted.dataset.items() if key != "type"}
        parts[split] = CocoDataset(**options)
    trained = [
        (Path(info["img_path"]).name, info["width"], info["height"], info["instances"])
        for info in map(parts["train"].get_data_info, range(len(parts["train"])))
    ]
    assert answer["data"]["train"]["boxes"] == sum(len(image[3]) for image in trained)
    metric = BoxAP(ann_file=cfg.val_evaluator.ann_file)
    metric.dataset_meta = parts["val"].metainfo
    for index in range(len(parts["val"])):
        info = parts["val"].get_data_info(index)
        found = detections(Path(info["img_path"]).stem, root)
        metric.process(None, [{"img_id": info["img_id"], "pred_instances": found}])
    return trained, metric.compute_metrics(metric.results)


def detections(stem: str, root: Path) -> dict[str, torch.Tensor]:
    """What the fixed detector finds: objects a little off, some of another class, some nothing."""
    rng = np.random.default_rng(int(stem))
    truth = json.loads((root / "clean.json").read_text())
    mine = [a for a in truth["annotations"] if a["image_id"] == int(stem)]
    boxes = np.array([a["bbox"] for a in mine], float)
    boxes = np.vstack([boxes + rng.normal(0, 2, boxes.shape), [[1, 1, 30, 30]]])
    labels = np.array([a["category_id"] - 1 for a in mine] + [int(stem) % 10])
    labels[rng.random(len(labels)) < 0.2] = 3
    boxes[:, 2:] += boxes[:, :2]
    return {
        "bboxes": torch.tensor(boxes),
        "scores": torch.tensor(rng.random(len(labels))),
        "labels": torch.tensor(labels),
    }


@pytest.fixture(scope="module")
def base(
    root: Path, clean: dict[str, Data], tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[Any], dict[str, Any]]:
    """The clean files' outcome."""
    (root / "clean.json").write_text(json.dumps(clean["val"]))
    work_dir = tmp_path_factory.mktemp("base")
    found = outcome(root, work_dir, checked(root, clean, work_dir))
    assert 10 < found[1]["AP"] < 90
    return found


@pytest.mark.parametrize("name", SAME)
def test_a_mended_file_trains_and_scores_as_the_clean_one(
    root: Path, clean: dict[str, Data], base: tuple[Any, Any], tmp_path: Path, name: str
) -> None:
    data = copy.deepcopy(clean)
    SAME[name](data)
    answer = checked(root, data, tmp_path / "case")
    assert answer["errors"] == []
    trained, metrics = outcome(root, tmp_path / "case", answer)
    assert trained == base[0]
    np.testing.assert_equal(metrics, base[1])  # NaN is equal to NaN
    silent = name in ("base", "extra keys", "other category ids in val")
    quiet = [note for note in answer["notes"] if "no boxes of" not in note]
    assert silent == (quiet == [])


REFUSED: dict[str, tuple[Change, str]] = {
    "boxes from 0 to 1": (
        annotations(lambda a: a.update(bbox=[v / 96 for v in a["bbox"]])),
        "fractions, not pixels",
    ),
    "no annotations": (lambda d: d["train"].update(annotations=[]), "nothing to train on"),
    "no annotations in val": (lambda d: d["val"].update(annotations=[]), "AP is undefined"),
    "only crowds in val": (annotations(lambda a: a.update(iscrowd=1), "val"), "AP is undefined"),
    "no images": (lambda d: d["val"].update(images=[]), "lists no images"),
    "no file name": (lambda d: d["val"]["images"][2].pop("file_name"), "images[2], id 2"),
    "no name": (lambda d: d["val"]["categories"][2].pop("name"), "categories[2], id 3"),
    "category ids off by one": (
        annotations(lambda a: a.update(category_id=a["category_id"] - 1), "val"),
        "category_id 0",
    ),
    "boxes of twice the size": (
        images(lambda i: i.update(width=192, height=192), "train"),
        "resize their boxes",
    ),
    "no image": (lambda d: d["train"]["images"][3].update(file_name="x.png"), "does not exist"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_mended_is_refused_in_a_line_and_leaves_nothing(
    root: Path, clean: dict[str, Data], tmp_path: Path, name: str
) -> None:
    change, words = REFUSED[name]
    data = copy.deepcopy(clean)
    change(data)
    answer = checked(root, data, tmp_path / "work")
    assert words in "; ".join(answer["errors"])
    assert all(str(root) in line and "\n" not in line for line in answer["errors"])
    assert not (tmp_path / "work").exists()


def test_the_embedded_data_is_trained_on_to_the_byte(
    root: Path, clean: dict[str, Data], tmp_path: Path
) -> None:
    """So that old trials on it can be reused."""
    answer = checked(root, clean, tmp_path)
    for split in COUNTS:
        part = answer["data"][split]
        kept = tmp_path / f"annotations-{part['annotations']}.json"
        assert kept.read_bytes() == (root / "annotations" / f"{split}.json").read_bytes()
        assert part["annotations"] == part["source"]
        assert part["boxes"] == len(clean[split]["annotations"])
