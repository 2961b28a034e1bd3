"""The backbone's pretraining: only from the training split, and the same every time."""

import json
from pathlib import Path

import cv2
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config

from ablations.data import digits
from ablations.training import pretraining
from ablations.training.pretraining import cut_crops, pretrain

EMBEDDED = "configs/retinanet_r18_digits.py"
SHIPPED = sorted(Path("configs/pretrained").glob("*.json"))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A data set of a few images, and a short training."""
    monkeypatch.setattr(digits, "SPLITS", {"train": 60, "val": 16})
    monkeypatch.setattr(pretraining, "BACKGROUNDS", 30)
    monkeypatch.setattr(pretraining, "BATCH", 16)
    monkeypatch.setattr(pretraining, "EPOCHS", 2)
    monkeypatch.setattr(pretraining, "THREADS", 1)
    digits.build(tmp_path / "digits")
    return tmp_path / "digits"


@pytest.fixture(autouse=True)
def _deterministic():
    before = torch.are_deterministic_algorithms_enabled()
    yield
    torch.use_deterministic_algorithms(before)


def test_only_the_training_split_is_opened(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Path] = []
    read_image, read_text = cv2.imread, Path.read_text
    monkeypatch.setattr(cv2, "imread", lambda p, *a: opened.append(Path(p)) or read_image(p, *a))
    monkeypatch.setattr(Path, "read_text", lambda p, *a: opened.append(p) or read_text(p, *a))
    cut_crops(small, seed=0)
    assert len(opened) == 61
    assert {path.relative_to(small).parts[0] for path in opened} == {"annotations", "train"}
    assert small / "annotations" / "val.json" not in opened


@pytest.mark.parametrize("note", SHIPPED, ids=lambda path: path.stem)
def test_the_shipped_weights_saw_no_digit_and_no_photograph_of_val(note: Path) -> None:
    seen = json.loads(note.read_text())
    assert seen["data"] == {"name": "digits", "version": digits.VERSION, "split": "train"}
    val = {Path(name).stem for name in digits.PHOTOS["val"]}
    assert seen["photographs"]
    assert not val & set(seen["photographs"])
    assert not set(digits.split_digits("val").tolist()) & set(seen["digits"])
    assert set(seen["digits"]) <= set(digits.split_digits("train").tolist())


def test_crops_are_of_the_digits_and_of_background(small: Path) -> None:
    crops = cut_crops(small, seed=0)
    coco = json.loads((small / "annotations" / "train.json").read_text())
    backgrounds = int((crops.labels == 10).sum())
    assert len(crops.images) == len(crops.labels) == len(coco["annotations"]) + backgrounds
    assert 20 <= backgrounds <= 30
    assert crops.images.shape[1:] == (3, pretraining.SIZE, pretraining.SIZE)
    assert crops.photographs == sorted({image["group"] for image in coco["images"]})


def test_one_seed_gives_one_file_and_the_detector_loads_it(
    scope, small: Path, tmp_path: Path
) -> None:
    config = Config.fromfile(EMBEDDED)
    notes = [
        pretrain(config, small, tmp_path / f"{n}.pth", seed) for n, seed in enumerate([4, 4, 5])
    ]
    assert notes[0]["sha256"] == notes[1]["sha256"] != notes[2]["sha256"]
    assert json.loads((tmp_path / "0.json").read_text()) == notes[0]
    saved = torch.load(tmp_path / "0.pth", weights_only=True)["state_dict"]
    backbone = MODELS.build(
        config.model.backbone
        | dict(init_cfg=dict(type="Pretrained", checkpoint=str(tmp_path / "0.pth")))
    )
    backbone.init_weights()
    loaded = backbone.state_dict()
    assert loaded.keys() == saved.keys()
    assert all(loaded[name].equal(value) for name, value in saved.items())
