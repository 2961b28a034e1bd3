"""Detectors side by side: who ran beside whom, and differences that were planted."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ablations.analysis.detectors import (
    detector_frame,
    loss_differences,
    several_detectors,
    side_by_side,
    size_differences,
)
from ablations.analysis.image_bootstrap import Resamples
from ablations.analysis.imbalance import imbalance_frame
from ablations.analysis.study import load_study
from tests.helpers.detectors import DETECTORS, Sweep, fabricate_detectors
from tests.helpers.fabricated import Plan, fabricate, label_of

PLAN = Plan(files=False)
TWO = {name: DETECTORS[name] for name in ("RetinaNet FL", "SSD")}


def label(detector: str) -> str:
    return label_of({"detector": detector})


def test_detectors_are_several_by_their_axis_or_their_models(tmp_path: Path) -> None:
    of = fabricate(tmp_path / "old", replace(PLAN, points=[{"loss": "CE"}, {"scales": 3}]))
    assert not several_detectors(load_study([of]))
    assert several_detectors(load_study([fabricate_detectors(tmp_path / "all", Sweep(plan=PLAN))]))
    arms = [{"loss": "CE"}, {"loss": "other"}]
    by_model = fabricate(tmp_path / "models", replace(PLAN, points=arms))
    assert not several_detectors(load_study([by_model]))
    for path in (by_model / "trials").glob("*/record.json"):
        record = json.loads(path.read_text())
        if record["label"] == "other":
            record["protocol"]["detector"] = "FCOS"
            path.write_text(json.dumps(record))
    assert several_detectors(load_study([by_model]))


@pytest.mark.parametrize(
    ("apart", "beside"), [(90.0, 0), (80.0, 0), (78.0, 0), (70.0, 6), (0.0, 6)]
)
def test_trials_that_ran_beside_others_are_counted(
    tmp_path: Path, apart: float, beside: int
) -> None:
    work_dir = fabricate_detectors(tmp_path / "w", Sweep(TWO, PLAN, apart_s=apart))
    assert side_by_side(load_study([work_dir])) == (beside, 0)


def test_trials_that_do_not_say_when_they_ran_are_not_known(tmp_path: Path) -> None:
    work_dir = fabricate_detectors(tmp_path / "w", Sweep(TWO, PLAN, lacking=("attempts",)))
    assert side_by_side(load_study([work_dir])) == (0, 6)


def test_cost_and_latency_by_detector(tmp_path: Path) -> None:
    states = {(label("SSD"), seed): "failed" for seed in (0, 1, 2)}
    study = load_study(
        [fabricate_detectors(tmp_path / "w", Sweep(TWO, replace(PLAN, states=states)))]
    )
    frame = detector_frame(study)
    retina, ssd = frame.loc[label("RetinaNet FL")], frame.loc[label("SSD")]
    assert (retina["params"], retina["flops"], retina["width"]) == (1_234_567, 98_765_432, 96)
    times = 8.7 * np.array([1, 1.02, 1.04])
    # The fastest: other work on the machine only slows a trial.
    assert retina["inference_ms"] == pytest.approx(times.min())
    assert retina["inference_ms_slowest"] == pytest.approx(times.max())
    assert ssd["problems"] == "3 of 3 failed"
    assert np.isnan(ssd["inference_ms"])
    assert ssd["inference_n"] == 0


def test_planted_differences_on_small_objects_are_found(tmp_path: Path) -> None:
    planted = {"RetinaNet FL": 0.0, "SSD": -8.0, "Faster R-CNN": 8.0, "FCOS": 0.0}
    detectors = {
        name: replace(DETECTORS[name], effect=0.0, size_effects=(effect, 0.0, 0.0))
        for name, effect in planted.items()
    }
    sweep = Sweep(detectors, replace(PLAN, noise=0.3, seeds=(0, 1, 2, 3)))
    rows = size_differences(load_study([fabricate_detectors(tmp_path / "w", sweep)]))
    small = rows[rows["metric"] == "AP_S"].set_index("label")
    assert small["better"].to_dict() == {
        label("SSD"): "no",
        label("Faster R-CNN"): "yes",
        label("FCOS"): "unclear",
    }
    assert small.loc[label("SSD"), "difference"] == pytest.approx(-8, abs=1)
    assert (small["p_corrected"] >= small["p"]).all()
    assert set(rows[rows["metric"] != "AP_S"]["better"]) == {"unclear"}


def test_a_loss_is_compared_with_plain_ce_on_its_own_detector(tmp_path: Path) -> None:
    points = [
        {"detector": detector, "loss": loss}
        for detector in ("RetinaNet", "FCOS", "ATSS")
        for loss in ("CE", "FL")
    ]
    effects = {label_of(p): {"RetinaNet": 0, "FCOS": 10, "ATSS": 20}[p["detector"]] for p in points}
    effects[label_of(points[1])] += 5.0
    effects[label_of(points[3])] -= 5.0
    grid = {"name": "gamma_alpha_detectors", "baseline": label_of(points[0])}
    plan = replace(PLAN, points=points, effects=effects, grid=grid, noise=0.2, seeds=(0, 1, 2, 3))
    rows = loss_differences(load_study([fabricate(tmp_path / "w", plan)]), Resamples())
    assert rows["detector"].tolist() == ["RetinaNet", "FCOS", "ATSS"]
    assert rows["baseline"].tolist() == [label_of(points[at]) for at in (0, 2, 4)]
    assert rows["difference"].tolist() == pytest.approx([5, -5, 0], abs=0.8)
    assert rows["better"].tolist() == ["yes", "no", "unclear"]


def test_a_grid_without_losses_has_no_such_differences(tmp_path: Path) -> None:
    study = load_study([fabricate_detectors(tmp_path / "w", Sweep(TWO, PLAN))])
    assert loss_differences(study, Resamples()).empty


def test_imbalance_by_head_with_what_a_sampler_drew_from(tmp_path: Path) -> None:
    chosen = {name: DETECTORS[name] for name in ("SSD", "Faster R-CNN")}
    work_dir = fabricate_detectors(tmp_path / "w", Sweep(chosen, PLAN, baseline="SSD"))
    for path in (work_dir / "trials").glob("*/record.json"):
        record = json.loads(path.read_text())
        for entry in record["imbalance"]:
            if entry["head"] == "rpn_head":
                entry["before_sampling"] = {"candidates": 4000.0, "positives": 11.0}
                entry["ce_negative_share"]["end"] = None
        path.write_text(json.dumps(record))
    frame = imbalance_frame(load_study([work_dir])).set_index("head")
    assert frame.index.tolist() == ["bbox_head", "rpn_head", "roi_head.bbox_head"]
    rpn = frame.loc["rpn_head"]
    assert rpn["ratio"] == pytest.approx(540 / 6.3)
    assert (rpn["drawn_from"], rpn["drawn_from_positives"]) == (4000, 11)
    assert rpn["start"] == pytest.approx(96)
    assert rpn["start_high"] - 96 == pytest.approx(4.302653 / np.sqrt(3), rel=1e-6)
    assert np.isnan(rpn["end"])
    assert np.isnan(frame.loc["bbox_head", "drawn_from"])
