"""Mistakes in a plan are found before its first trial."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ablations.commands.sweep import TRAINING
from ablations.sweep.plan import load_config, override
from ablations.sweep.preflight import check_plan

LOSS = "model.bbox_head.loss_cls"
FOCAL = {"type": "ablations.FocalLoss", "gamma": 2.0, "alpha": 0.25, "use_sigmoid": True}


@pytest.fixture
def planned(digits: Path) -> Callable[..., dict[str, Any]]:
    """Check the default config with its loss changed."""
    config = load_config("configs/retinanet_r18_digits.py")
    config = override(config, "data_root", str(digits))
    for split in ("train_dataloader.dataset.dataset", "val_dataloader.dataset"):
        config = override(config, f"{split}.data_root", str(digits))

    def run(path: str = LOSS, value: Any = FOCAL) -> dict[str, Any]:
        return check_plan(TRAINING, [override(config, path, value)])

    return run


def test_a_good_plan_gives_the_datas_checksums(planned, digits: Path) -> None:
    answer = planned()
    assert answer["errors"] == []
    manifest = json.loads((digits / "manifest.json").read_text())
    for split in ("train", "val"):
        assert answer["data"][split]["annotations"] == manifest["splits"][split]["annotations"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"gamma": -1}, ("gamma", "-1")),
        ({"gamma": "two"}, ("gamma", "two")),
        ({"alpha": 1.5}, ("alpha", "1.5")),
        ({"type": "ablations.FocalLos"}, ("FocalLos",)),
        ({"gama": 2}, ("gama",)),
        ({"use_sigmoid": False}, ("use_sigmoid",)),
    ],
)
def test_a_bad_loss_is_one_line_that_names_the_value(planned, change, words) -> None:
    errors = planned(value={**FOCAL, **change})["errors"]
    assert len(errors) == 1
    assert "\n" not in errors[0]
    for word in words:
        assert word in errors[0]


def test_a_loss_that_mmdet_would_give_softmax_outputs_is_refused(planned) -> None:
    """mmdet sizes the classifier by the config's use_sigmoid, which it takes to be False."""
    silent = {key: value for key, value in FOCAL.items() if key != "use_sigmoid"}
    assert "needs use_sigmoid=True" in planned(value=silent)["errors"][0]


def test_a_wrong_key_of_the_detector_is_refused(planned) -> None:
    (error,) = planned("model.neck.out_channels", "many")["errors"]
    assert "FPN" in error or "RetinaNet" in error


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "does not exist"),
        ("not json", "is not JSON"),
        ("[]", "not in COCO format"),
        ('{"images": [], "annotations": []}', "it has no 'categories'"),
        ('{"images": [], "annotations": [], "categories": []}', "has no class '0'"),
    ],
)
def test_data_that_is_not_coco_is_refused(
    planned, tmp_path: Path, content: str | None, message: str
) -> None:
    path = tmp_path / "train.json"
    if content is not None:
        path.write_text(content)
    (error,) = planned("train_dataloader.dataset.dataset.ann_file", str(path))["errors"]
    assert message in error
    assert str(path) in error


def test_a_missing_image_is_refused(planned, tmp_path: Path, digits: Path) -> None:
    (error,) = planned("val_dataloader.dataset.data_prefix", {"img": "nowhere/"})["errors"]
    assert "nowhere" in error
    assert "does not exist" in error


def test_missing_weights_are_one_line(planned) -> None:
    (error,) = planned(
        "+model.backbone.init_cfg", {"type": "Pretrained", "checkpoint": "nowhere/resnet18.pth"}
    )["errors"]
    assert error == "the pretrained weights nowhere/resnet18.pth are missing: there is no such file"


def test_weights_that_cannot_be_downloaded_are_one_line(planned) -> None:
    """No server listens on the discard port."""
    url = "http://127.0.0.1:9/resnet18.pth"
    (error,) = planned("load_from", url)["errors"]
    assert error.startswith(f"the pretrained weights {url} are missing: ")
    assert "refused" in error
    assert "put the file into" in error


def test_weights_that_are_there_pass(planned, tmp_path: Path) -> None:
    (tmp_path / "weights.pth").touch()
    assert planned("load_from", str(tmp_path / "weights.pth"))["errors"] == []
