"""What the check of a sweep's data makes of the config, and leaves in the work directory."""

import json
from pathlib import Path
from typing import Any

import pytest

from ablations.sweep.dataset import check_data
from ablations.sweep.plan import override
from tests.helpers.coco_sets import write_coco_set

CLASSES = ("cat", "dog")


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root = write_coco_set(tmp_path / "own", CLASSES)

    def loader(split: str) -> dict[str, Any]:
        named = dict(
            type="CocoDataset",
            data_root=str(root),
            ann_file=f"annotations/{split}.json",
            data_prefix=dict(img=split),
            metainfo=dict(classes=CLASSES),
        )
        return dict(dataset=named)

    return dict(
        data_root=str(root),
        train_dataloader=loader("train"),
        val_dataloader=loader("val"),
        val_evaluator=dict(type="BoxAP", ann_file=f"{root}/annotations/val.json"),
    )


def edit(config: dict[str, Any], split: str, **parts: Any) -> None:
    path = Path(config["data_root"]) / "annotations" / f"{split}.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | parts))


def test_both_checked_files_are_in_the_work_directory(config, tmp_path: Path) -> None:
    edit(config, "val", categories=[dict(id=2, name="dog"), dict(id=1, name="cat")])
    answer = check_data(config, tmp_path / "work")
    assert answer["errors"] == []
    (note,) = answer["notes"]
    assert "own/annotations/val.json: its categories are in another order" in note
    data = answer["data"]
    names = {f"annotations-{data[split]['annotations']}.json" for split in ("train", "val")}
    assert {path.name for path in (tmp_path / "work").iterdir()} == names
    assert data["train"]["mended"] == []
    assert len(data["val"]["mended"]) == 1
    assert check_data(config)["data"] == data  # without a work directory too


def test_a_mistake_in_one_file_leaves_neither(config, tmp_path: Path) -> None:
    edit(config, "val", annotations=[])
    edit(config, "train", images=[])
    answer = check_data(config, tmp_path / "work")
    assert len(answer["errors"]) == 2
    assert answer["data"] == {}
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("val_dataloader.dataset.metainfo.classes", ("dog", "cat"), "give both the same"),
        ("val_dataloader.dataset.metainfo", None, "give both the same"),
        ("train_dataloader.dataset.metainfo.classes", "cat", "write a list, as in ('cat',)"),
        ("train_dataloader.dataset.ann_file", None, "no data set with one ann_file"),
    ],
)
def test_classes_that_a_config_does_not_give_as_a_list_are_refused(
    config, path: str, value: Any, words: str
) -> None:
    (error,) = check_data(override(config, path, value))["errors"]
    assert words in error


def test_a_class_named_twice_is_refused(config) -> None:
    for split in ("train", "val"):
        path = f"{split}_dataloader.dataset.metainfo.classes"
        config = override(config, path, ("cat", "dog", "cat"))
    (error,) = check_data(config)["errors"]
    assert "cat twice" in error


def test_a_config_without_classes_means_cocos(config) -> None:
    for split in ("train", "val"):
        config = override(config, f"{split}_dataloader.dataset.metainfo", {})
    errors = check_data(config)["errors"]
    assert all("has no class 'person'" in e and "names no classes" in e for e in errors)
    for split in ("train", "val"):  # a data set of the user's own has its own
        config = override(config, f"{split}_dataloader.dataset.type", "MyDataset")
    assert check_data(config)["errors"] == []


def test_the_classes_of_coco_are_mmdets() -> None:
    from mmdet.datasets import CocoDataset

    from ablations.data.coco import COCO_CLASSES

    assert CocoDataset.METAINFO["classes"] == COCO_CLASSES


def test_validation_images_that_are_trained_on_are_told(config) -> None:
    config = override(config, "val_dataloader.dataset.data_prefix", {"img": "train"})
    (note,) = check_data(config)["notes"]
    assert "6 of 6 validation images are trained on too" in note


def test_an_evaluator_that_names_another_file_is_told(config) -> None:
    config = override(config, "val_evaluator.ann_file", "elsewhere/val.json")
    (note,) = check_data(config)["notes"]
    assert "val_evaluator.ann_file elsewhere/val.json is not read" in note


def test_all_images_are_decoded_if_that_is_asked_for(
    config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ablations.data.coco.files.DECODING_S", 0.0)
    monkeypatch.setattr("ablations.data.coco.files._PROBE", 1)
    monkeypatch.setattr("ablations.data.coco.files.SAMPLE", 2)
    assert any("2 of 6 images were decoded" in note for note in check_data(config)["notes"])
    assert check_data(config, check_images=True)["notes"] == []
