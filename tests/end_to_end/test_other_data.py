"""Data and detectors other than the embedded ones, from the command line to the record."""

import json
from pathlib import Path

import numpy as np
import pytest
from mmdet.datasets import CocoDataset

from ablations.store.states import sweep_states
from tests.end_to_end.conftest import REPOSITORY
from tests.helpers.coco_sets import write_coco_set

OWN = """
_base_ = ["{base}"]
data_root = "own/"
train_dataloader = dict(batch_size=2, dataset=dict(dataset=dict(data_root=data_root)))
val_dataloader = dict(dataset=dict(data_root=data_root))
val_evaluator = dict(ann_file=data_root + "annotations/val.json")
model = dict(test_cfg=dict(score_thr=0.0))
train_cfg = dict(max_iters=3, val_interval=3)
auto_scale_lr = dict(base_batch_size=2)
"""
COCO = """
_base_ = ["{base}"]
scale = (96, 64)  # of 1000 x 600
train_dataloader = dict(num_workers=0, persistent_workers=False)
val_dataloader = dict(num_workers=0, persistent_workers=False)
model = dict(backbone=dict(init_cfg=None))  # no weights to be had
train_cfg = dict(max_iters=2, val_interval=2)
auto_scale_lr = dict(base_batch_size=2)
"""
SCALE = (
    "train_dataloader.dataset.dataset.pipeline.2.scale=(96, 64)",
    "val_dataloader.dataset.pipeline.1.scale=(96, 64)",
)
GRID = """
blocks = [
    dict(points=[dict(loss="CE")],
         set={"model.bbox_head.loss_cls": dict(type="ablations.CrossEntropyLoss",
                                               use_sigmoid=True)})
]
"""
FLAGS = ("--grid", "grid.py", "--work-dir", "work", "--no-report", "--workers", "1")


def own_config(folder: Path, detector: str) -> None:
    """A copy of configs/own_data.py on another detector, cut down for a test."""
    text = (REPOSITORY / "configs" / "own_data.py").read_text()
    base = REPOSITORY / "configs" / f"{detector}.py"
    named = text.replace('_base_ = ["retinanet_r18_four_levels.py"]', f'_base_ = ["{base}"]')
    assert named != text
    (folder / "mine.py").write_text(named)
    (folder / "config.py").write_text(OWN.format(base="mine.py"))
    (folder / "grid.py").write_text(GRID)
    write_coco_set(folder / "own", ("cat", "dog"))


@pytest.mark.parametrize(
    "detector",
    [
        "fcos_r18_digits",
        pytest.param("retinanet_r18_four_levels", marks=pytest.mark.slow),
        pytest.param("atss_r18_digits", marks=pytest.mark.slow),
    ],
)
def test_own_data_of_any_size_on_a_detector_with_a_loss_cls(
    sweep, tiny: Path, detector: str
) -> None:
    own_config(tiny, detector)
    done = sweep(*FLAGS, "--config", "config.py")
    assert done.returncode == 0, done.stdout + done.stderr
    (state,) = sweep_states(tiny / "work")[1]
    assert state.record.status == "finished"
    assert state.record.loss["type"] == "ablations.CrossEntropyLoss"
    assert set(state.record.per_class) == {"cat", "dog"}
    assert state.record.data["name"] == state.record.protocol["data"] == "own"
    assert state.record.protocol["flip"] == 0.5
    curve = np.load(state.folder / "curve.npz")
    assert (curve["loss_cls_positive"] > 0).all()
    assert (curve["loss_cls_negative"] > 0).all()


def test_own_data_that_is_not_there_is_one_line(sweep, tiny: Path) -> None:
    own_config(tiny, "retinanet_r18_four_levels")
    (tiny / "own" / "annotations" / "val.json").unlink()
    done = sweep(*FLAGS, "--config", "config.py")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "own/annotations/val.json does not exist" in done.stderr
    assert not (tiny / "work" / "manifest.json").exists()


def damage(root: Path) -> None:
    """What people's files have, all at once, and nothing that changes what is meant."""
    for split in ("train", "val"):
        path = root / "annotations" / f"{split}.json"
        content = json.loads(path.read_text())
        content["categories"].reverse()
        for place, annotation in enumerate(content["annotations"]):
            annotation |= {"id": place, "image_id": f"a{annotation['image_id']}f"}
            del annotation["iscrowd"], annotation["area"]
        for image in content["images"]:
            image["id"] = f"a{image['id']}f"
            del image["width"], image["height"]
        path.write_bytes(b"\xef\xbb\xbf" + json.dumps(content).encode())


def test_a_mended_data_set_gives_the_record_of_the_clean_one(sweep, tiny: Path) -> None:
    own_config(tiny, "retinanet_r18_four_levels")
    records = {}
    for name in ("clean", "damaged"):
        if name == "damaged":
            damage(tiny / "own")
        flags = [name if flag == "work" else flag for flag in FLAGS]
        done = sweep(*flags, "--config", "config.py")
        assert done.returncode == 0, done.stdout + done.stderr
        (state,) = sweep_states(tiny / name)[1]
        records[name] = state.record
    clean, damaged = records["clean"], records["damaged"]
    for note in ("another order", "12 annotations without iscrowd", "id_in_file", "UTF-8"):
        assert any(note in line for line in damaged.data["val"]["mended"]), note
        assert note in done.stdout
    assert clean.data["val"]["mended"] == []
    assert damaged.trial_id == clean.trial_id
    assert damaged.metrics == clean.metrics
    assert damaged.per_class == clean.per_class
    assert damaged.final == clean.final
    assert damaged.data["train"]["boxes"] == clean.data["train"]["boxes"] == 12


def test_data_that_is_refused_leaves_no_trial_and_can_be_mended(sweep, tiny: Path) -> None:
    own_config(tiny, "retinanet_r18_four_levels")
    image = tiny / "own" / "val" / "0003.png"
    whole = image.read_bytes()
    image.write_bytes(whole[: len(whole) // 2])
    done = sweep(*FLAGS, "--config", "config.py")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "own/annotations/val.json: 1 image file damaged (first: images[2], id 3" in line
    assert not (tiny / "work" / "trials").exists()
    # What a start leaves that was stopped before its manifest is in nobody's way.
    (tiny / "work").mkdir(exist_ok=True)
    (tiny / "work" / "annotations-00.json").write_text("{}")
    (tiny / "work" / ".annotations.00").write_text("{")
    image.write_bytes(whole)
    assert sweep(*FLAGS, "--config", "config.py").returncode == 0


@pytest.mark.parametrize(
    "config",
    ["retinanet_r50_coco_600", pytest.param("retinanet_r101_coco_600", marks=pytest.mark.slow)],
)
def test_the_papers_configs_train_on_a_set_like_coco(sweep, tiny: Path, config: str) -> None:
    names = {
        split: (f"annotations/instances_{split}2017.json", f"{split}2017")
        for split in ("train", "val")
    }
    classes = CocoDataset.METAINFO["classes"]
    assert len(classes) == 80
    write_coco_set(tiny / "data" / "coco", classes, images=4, splits=names)
    base = REPOSITORY / "configs" / f"{config}.py"
    (tiny / "config.py").write_text(COCO.format(base=base))
    (tiny / "grid.py").write_text(GRID)
    done = sweep(*FLAGS, "--config", "config.py", "--cfg-options", *SCALE)
    assert done.returncode == 0, done.stdout + done.stderr
    (state,) = sweep_states(tiny / "work")[1]
    assert state.record.status == "finished"
    assert state.record.protocol["scale"] == 64
    assert state.record.protocol["iterations"] == state.record.timings["iterations"] == 2
    assert state.record.data["name"] == "coco2017"
    assert len(state.record.per_class) == 80
    assert state.record.final["loss"] > 0
