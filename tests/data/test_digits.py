"""The embedded data set: deterministic, disjoint, whole."""

import json
from pathlib import Path

import numpy as np
import pytest

from ablations.data import digits


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(digits, "SPLITS", {"train": 6, "val": 4})
    assert "there was none" in digits.build(tmp_path / "digits")
    return tmp_path / "digits"


def contents(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def test_a_whole_data_set_is_left_alone_and_a_second_one_is_equal(
    small: Path, tmp_path: Path
) -> None:
    before = contents(small)
    assert digits.build(small) is None
    digits.build(tmp_path / "again")
    assert contents(small) == contents(tmp_path / "again") == before


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda root: (root / "annotations/val.json").write_text("{}"), "val.json was missing"),
        (lambda root: (root / "train/000003.png").unlink(), "images in train/"),
        (lambda root: (root / "val/000000.png").write_bytes(b""), "images in val/"),
        (lambda root: (root / "manifest.json").write_text("{"), "not valid JSON"),
        (lambda root: (root / "manifest.json").unlink(), "manifest was missing"),
    ],
)
def test_damage_is_found_told_and_repaired(small: Path, damage, reason: str) -> None:
    whole = contents(small)
    damage(small)
    assert reason in digits.build(small)
    assert contents(small) == whole


def test_train_and_val_share_no_photograph_and_no_digit() -> None:
    assert not set(digits.PHOTOS["train"]) & set(digits.PHOTOS["val"])
    train, val = digits._digits("train")[1], digits._digits("val")[1]
    numbers = [set(digits.split_digits(split).tolist()) for split in ("train", "val")]
    assert not numbers[0] & numbers[1]
    assert len(train) + len(val) == 1797
    both = np.concatenate([train, val]).reshape(1797, 64)
    assert not {row.tobytes() for row in both[: len(train)]} & {
        row.tobytes() for row in both[len(train) :]
    }


def test_boxes_are_tight_and_inside(small: Path) -> None:
    coco = json.loads((small / "annotations/train.json").read_text())
    assert {category["name"] for category in coco["categories"]} == set("0123456789")
    for annotation in coco["annotations"]:
        x, y, w, h = annotation["bbox"]
        assert 0 <= x < x + w <= digits.IMAGE_SIZE
        assert 0 <= y < y + h <= digits.IMAGE_SIZE
        assert annotation["area"] == w * h
    found = [digits.compose("train", number) for number in range(40)]
    assert all(image.shape == (digits.IMAGE_SIZE, digits.IMAGE_SIZE, 3) for image, _ in found)
    counts = [len(composed.glyphs) for _, composed in found]
    assert set(counts) == set(range(1, digits.MAX_DIGITS + 1))


def test_a_share_of_the_images_may_have_no_digit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digits, "EMPTY", 0.3)
    counts = [len(digits.compose("train", number)[1].glyphs) for number in range(40)]
    assert 4 <= counts.count(0) <= 20


def test_annotations_say_which_photograph_and_which_digit(small: Path) -> None:
    for split in ("train", "val"):
        coco = json.loads((small / f"annotations/{split}.json").read_text())
        photos = [Path(name).stem for name in digits.PHOTOS[split]]
        assert [image["group"] for image in coco["images"]] == [
            photos[number % len(photos)] for number in range(len(coco["images"]))
        ]
        _, _, labels = digits._digits(split)
        class_of = dict(zip(digits.split_digits(split).tolist(), labels.tolist(), strict=True))
        for annotation in coco["annotations"]:
            assert class_of[annotation["digit"]] == annotation["category_id"] - 1


def test_validation_has_enough_photographs_of_scenes_that_train_has_not() -> None:
    assert len(digits.PHOTOS["val"]) == 8
    scenes = [Path(name).stem.removesuffix("_left") for name in sum(digits.PHOTOS.values(), ())]
    assert len(scenes) == len(set(scenes))
    assert not any("_right" in scene for scene in scenes)
