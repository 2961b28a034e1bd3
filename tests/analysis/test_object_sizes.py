"""Object sizes that fit the images, and AP by them against pycocotools."""

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ablations.analysis.object_sizes import find_sizes, sized
from ablations.analysis.study import load_study
from tests.helpers.fabricated import Plan, fabricate

POINTS = [{"loss": "CE"}, {"gamma": 2.0, "alpha": 0.25}]


def truth_of(side: int, areas: list[float], **more: Any) -> dict[str, Any]:
    boxes = [
        {"id": i + 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9], "area": area} | more
        for i, area in enumerate(areas)
    ]
    return {
        "images": [{"id": 1, "width": side // 2, "height": side}],
        "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
        "annotations": boxes,
    }


@pytest.mark.parametrize(("side", "factor"), [(640, 1.0), (96, 0.15), (1280, 2.0)])
def test_cocos_bounds_are_scaled_with_the_longer_side(side: int, factor: float) -> None:
    low, high = (32 * factor) ** 2, (96 * factor) ** 2
    areas = [low * 0.9] * 100 + [low * 1.1] * 120 + [high * 1.1] * 130
    found = find_sizes(truth_of(side, areas))
    assert found is not None
    assert found.bounds == pytest.approx((low, high))
    assert found.counts == (100, 120, 130)
    assert not found.thirds
    if side == 640:
        assert found.bounds == (32.0**2, 96.0**2)


def test_sizes_are_thirds_where_scaled_bounds_leave_too_few_objects() -> None:
    # As in the embedded data: digits of 15 to 55 px on images of 96 px are all large there.
    areas = np.repeat(np.linspace(240, 3000, 60).round(), 5).tolist()
    found = find_sizes(truth_of(96, areas))
    assert found is not None
    assert found.thirds
    assert found.scaled_counts == (0, 0, 300)
    assert found.coco_counts == (85, 215, 0)
    assert found.counts == (100, 100, 100)
    assert not set(found.bounds) & set(areas)


def test_objects_of_one_size_cannot_be_divided() -> None:
    found = find_sizes(truth_of(640, [500.0] * 30))
    assert found is not None
    assert found.bounds == (32.0**2, 96.0**2)
    assert found.counts == (30, 0, 0)


def test_crowds_and_other_classes_are_not_counted() -> None:
    truth = truth_of(640, [500.0, 600.0, 700.0])
    truth["annotations"][0]["iscrowd"] = 1
    truth["annotations"][1]["category_id"] = 2
    found = find_sizes(truth, ("a",))
    assert found is not None
    assert sum(found.counts) == 1


def test_images_without_a_size_have_no_sizes() -> None:
    truth = truth_of(640, [500.0])
    del truth["images"][0]["width"]
    assert find_sizes(truth) is None
    assert find_sizes(truth_of(640, [])) is None


def by_pycocotools(work_dir: Path, folder: Path, bounds: tuple[float, float]) -> list[float]:
    with contextlib.redirect_stdout(io.StringIO()), np.load(folder / "predictions.npz") as found:
        coco = COCO(str(next(work_dir.glob("annotations-*.json"))))
        rows = np.column_stack(
            [found["image_id"], found["bbox"], found["score"], found["category_id"]]
        )
        evaluation = COCOeval(coco, coco.loadRes(rows.astype(np.float64)), "bbox")
        low, high = bounds
        evaluation.params.areaRng = [[0, 1e10], [0, low], [low, high], [high, 1e10]]
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [100 * value for value in evaluation.stats[3:6]]


def test_ap_by_size_is_what_pycocotools_gives_with_these_bounds(tmp_path: Path) -> None:
    work_dir = fabricate(tmp_path / "w", Plan(points=POINTS, seeds=(0, 1), images=25, files=False))
    study = load_study([work_dir])
    found = sized(study)
    assert found.sizes is not None
    assert found.left_out == []
    for state in study.finished_states:
        row = found.study.trials.set_index("trial_id").loc[state.entry.id]
        expected = by_pycocotools(work_dir, state.folder, found.sizes.bounds)
        assert row[["AP_S", "AP_M", "AP_L"]].tolist() == pytest.approx(expected, abs=1e-9)
    # The same once more, from what was kept; AP itself is the record's.
    again = sized(study)
    assert again.study.trials["AP_S"].tolist() == found.study.trials["AP_S"].tolist()
    assert found.study.trials["AP"].tolist() == study.trials["AP"].tolist()


def test_damaged_predictions_cost_their_trial_alone(tmp_path: Path) -> None:
    work_dir = fabricate(tmp_path / "w", Plan(points=POINTS, seeds=(0, 1), images=8, files=False))
    path = min((work_dir / "trials").glob("*/predictions.npz"))
    path.write_bytes(b"torn")
    found = sized(load_study([work_dir]))
    assert found.left_out == [f"{path} is not the file that its record describes"]
    assert found.study.trials["AP_M"].isna().tolist() == [True, False, False, False]


def test_without_annotations_the_records_figures_stay(tmp_path: Path) -> None:
    plan = Plan(points=POINTS, seeds=(0, 1), images=8, files=False)
    work_dir = fabricate(tmp_path / "w", plan)
    annotations = next(work_dir.glob("annotations-*.json"))
    study = load_study([work_dir])
    annotations.write_text(json.dumps(json.loads(annotations.read_text()))[:-9])
    found = sized(study)
    assert found.sizes is None
    assert "not valid JSON" in found.left_out[0]
    annotations.unlink()
    found = sized(study)
    assert found.study.trials["AP_S"].tolist() == study.trials["AP_S"].tolist()
