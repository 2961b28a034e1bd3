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
    train, val = digits._glyphs("train")[0], digits._glyphs("val")[0]
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
    clean, objects = digits.compose("train", 0)
    assert clean.shape == (digits.IMAGE_SIZE, digits.IMAGE_SIZE, 3)
    assert 1 <= len(objects) <= digits.MAX_DIGITS
