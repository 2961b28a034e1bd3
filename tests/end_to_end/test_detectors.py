"""A loss as an arm in a two-stage detector and in each kind of head, up to the records."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config

from ablations.losses.softmax import SoftmaxFocalLoss
from ablations.store.record import damaged_files
from ablations.store.states import TrialState, sweep_states
from tests.end_to_end.conftest import REPOSITORY, Run

GRID = """
_focal = dict(type="ablations.FocalLoss", gamma=2.0, alpha=0.25, use_sigmoid=True)
_model = {"$by": "detector",
    "SSD": {"$config": "configs/ssd_r18_digits.py"},
    "YOLOv3": {"$config": "configs/yolov3_r18_digits.py"},
    "Faster R-CNN": {"$config": "configs/faster_rcnn_r18_digits.py"},
    "FCOS": {"$config": "configs/fcos_r18_digits.py"},
    "ATSS": {"$config": "configs/atss_r18_digits.py"}}
blocks = [
    dict(points=[dict(detector="SSD")], set={"model": _model}),
    dict(points=[dict(detector="YOLOv3", loss="conf")], set={
        "model": _model,
        "model.bbox_head.loss_conf": dict(_focal, reduction="sum"),
        "model.bbox_head.loss_cls": dict(type="ablations.CrossEntropyLoss", use_sigmoid=True,
                                         reduction="sum")}),
    dict(points=[dict(detector="Faster R-CNN", loss="plain")], set={"model": _model}),
    dict(points=[dict(detector="Faster R-CNN", loss="rpn")],
         set={"model": _model, "model.rpn_head.loss_cls": _focal}),
    dict(points=[dict(detector="Faster R-CNN", loss="roi")],
         set={"model": _model, "model.roi_head.bbox_head.loss_cls": dict(
             type="ablations.SoftmaxFocalLoss", gamma=1.0, alpha=0.25, use_sigmoid=False)}),
    dict(points=[dict(detector=name, loss="CE") for name in ("FCOS", "ATSS")], set={
        "model": _model,
        "model.bbox_head.loss_cls": dict(type="ablations.CrossEntropyLoss", use_sigmoid=True)}),
    dict(points=[dict(loss="softmax")],
         set={"model.bbox_head.loss_cls": dict(type="ablations.SoftmaxFocalLoss", gamma=2.0,
                                               use_sigmoid=False)}),
]
"""
FLAGS = ("--grid", "grid.py", "--config", "config.py", "--work-dir", "work", "--workers", "1")
MINE = "model.roi_head.bbox_head.loss_cls"


def with_few_iterations(folder: Path) -> None:
    text = (folder / "config.py").read_text().replace("=12", "=4")
    (folder / "config.py").write_text(text)
    (folder / "grid.py").write_text(GRID)


def trained(folder: Path) -> dict[str, TrialState]:
    return {state.entry.label: state for state in sweep_states(folder / "work")[1]}


def test_every_head_with_a_loss_as_its_arm(sweep: Run, tiny: Path, environment) -> None:
    with_few_iterations(tiny)
    done = sweep(*FLAGS)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "are not complete" not in done.stdout + done.stderr  # W&B's runs, also without CDFs
    states = trained(tiny)
    assert len(states) == 8
    for label, state in states.items():
        record = state.record
        assert record.status == "finished" and not damaged_files(state.folder, record)
        curve = np.load(state.folder / "curve.npz")
        both = curve["loss_cls_positive"] + curve["loss_cls_negative"]
        np.testing.assert_allclose(both, curve["loss_cls"], rtol=1e-5, err_msg=label)
        assert (curve["loss_cls_negative"] > -1e-5).all() and (curve["loss_bbox"] > 0).all()
        assert record.complexity["params"] > 50_000 < record.complexity["flops"]
        assert (record.complexity["height"], record.complexity["width"]) == (96, 96)
        assert record.imbalance_missing is None
        for entry in record.imbalance:
            assert 0 < entry["positives"] < entry["candidates"]
        log = (state.folder / "log.txt").read_text()
        sampled = (state.folder / "probabilities.npz").exists()
        assert not sampled and "no loss CDFs" in log
    assert states["SSD"].record.loss == {}
    assert states["Faster R-CNN roi"].record.loss["type"] == "ablations.SoftmaxFocalLoss"
    assert [entry["head"] for entry in states["Faster R-CNN rpn"].record.imbalance] == [
        "rpn_head",
        "roi_head.bbox_head",
    ]
    # The arms of a detector share weights and data, and differ in the loss that was set.
    plain, rpn, roi = (states[f"Faster R-CNN {name}"] for name in ("plain", "rpn", "roi"))
    first = [np.load(state.folder / "curve.npz") for state in (plain, rpn, roi)]
    assert first[0]["loss_cls"][0] == first[1]["loss_cls"][0] > first[2]["loss_cls"][0]
    assert first[0]["loss"][0] != first[1]["loss"][0]
    report = (tiny / "reports" / "work" / "README.md").read_text()
    assert "Faster R-CNN roi" in report

    trial = [sys.executable, str(REPOSITORY / "runners" / "trial.py"), str(roi.folder)]
    again = subprocess.run(trial, cwd=tiny, env=environment, capture_output=True, timeout=120)
    assert again.returncode == 0
    assert Config.fromfile(roi.folder / "config.py").model.type == "FasterRCNN"


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("+model.bbox_head.loss_cls={'type': 'ablations.FocalLoss'}", "computes its loss itself"),
        ("model.bbox_head.num_classes=7", "num_classes is 7, and the data has 10 classes"),
    ],
)
def test_what_ssd_cannot_do_is_one_line(sweep: Run, tiny: Path, option: str, words: str) -> None:
    (tiny / "grid.py").write_text('blocks = [dict(points=[dict(detector="SSD")], set={})]')
    text = (tiny / "config.py").read_text().replace("retinanet_r18", "ssd_r18")
    (tiny / "config.py").write_text(text)
    done = sweep(*FLAGS, "--cfg-options", option)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1 and words in done.stderr


def test_a_sigmoid_loss_in_a_softmax_head_is_one_line(sweep: Run, tiny: Path) -> None:
    loss = 'dict(type="ablations.FocalLoss", use_sigmoid=True)'
    grid = f'blocks = [dict(points=[dict(loss="FL")], set={{"{MINE}": {loss}}})]'
    (tiny / "grid.py").write_text(grid)
    text = (tiny / "config.py").read_text().replace("retinanet_r18", "faster_rcnn_r18")
    (tiny / "config.py").write_text(text)
    done = sweep(*FLAGS)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "roi_head.bbox_head has a softmax" in done.stderr
    assert SoftmaxFocalLoss.__name__ in done.stderr
