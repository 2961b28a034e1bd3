"""AP against pycocotools on hand-made detections."""

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ablations.store.record import METRICS
from ablations.training.metric import score


@pytest.fixture
def truth() -> COCO:
    coco = COCO()
    coco.dataset = {
        "images": [{"id": 1, "width": 100, "height": 100}, {"id": 2, "width": 100, "height": 100}],
        "categories": [{"id": 7, "name": "a"}, {"id": 3, "name": "b"}],
        "annotations": [
            dict(id=1, image_id=1, category_id=7, bbox=[10, 10, 20, 20], area=400, iscrowd=0),
            dict(id=2, image_id=2, category_id=7, bbox=[30, 30, 40, 40], area=1600, iscrowd=0),
        ],
    }
    coco.createIndex()
    return coco


def test_perfect_detections_score_100_and_absent_classes_nothing(truth: COCO) -> None:
    rows = np.array([[1, 10, 10, 20, 20, 0.9, 7], [2, 30, 30, 40, 40, 0.8, 7]])
    found = score(truth, rows, [1, 2], [7, 3])
    for name in ("AP", "AP50", "AP_S", "AP_M"):
        assert found[name] == pytest.approx(100)
    assert found["AP/a"] == pytest.approx(100)
    assert np.isnan(found["AP/b"])
    assert np.isnan(found["AP_L"])


def test_half_of_the_objects_found_is_half_of_the_recall_levels(truth: COCO) -> None:
    rows = np.array([[1, 10, 10, 20, 20, 0.9, 7]])
    # Precision is 1 at the 51 of 101 recall levels up to 0.5, and 0 beyond.
    assert score(truth, rows, [1, 2], [7])["AP"] == pytest.approx(100 * 51 / 101)


def test_image_ids_beyond_what_float32_holds_stay_apart() -> None:
    first = 20_000_000
    boxes = [
        dict(id=i + 1, image_id=first + i, category_id=7, bbox=[9 * i, 10, 20, 20], area=400)
        for i in range(4)
    ]
    truth = COCO()
    truth.dataset = {
        "images": [{"id": first + i} for i in range(4)],
        "categories": [{"id": 7, "name": "a"}],
        "annotations": [box | {"iscrowd": 0} for box in boxes],
    }
    truth.createIndex()
    rows = np.array([[box["image_id"], *box["bbox"], 0.9, 7] for box in boxes], float)
    assert score(truth, rows, range(first, first + 4), [7])["AP"] == pytest.approx(100)


def test_no_detection_scores_0(truth: COCO) -> None:
    assert score(truth, np.empty((0, 7)), [1, 2], [7])["AP"] == 0


def test_only_the_scored_images_count(truth: COCO) -> None:
    rows = np.array([[1, 10, 10, 20, 20, 0.9, 7]])
    assert score(truth, rows, [1], [7])["AP"] == pytest.approx(100)


@pytest.mark.parametrize("largest", [90, 300])  # px; without large objects, and with
def test_random_detections_score_what_pycocotools_says(largest: int) -> None:
    rng = np.random.default_rng(largest)
    truth = COCO()
    boxes = np.column_stack([rng.uniform(0, 50, (60, 2)), rng.uniform(5, largest, (60, 2))])
    truth.dataset = {
        "images": [{"id": image, "width": 400, "height": 400} for image in range(1, 21)],
        "categories": [{"id": 2, "name": "a"}, {"id": 5, "name": "b"}],
        "annotations": [
            dict(
                id=number + 1,
                image_id=number % 20 + 1,
                category_id=(2, 5)[number % 3 == 0],
                bbox=box.tolist(),
                area=float(box[2] * box[3]),
                iscrowd=int(number % 17 == 0),
            )
            for number, box in enumerate(boxes)
        ],
    }
    truth.createIndex()
    found = np.repeat(boxes, 4, axis=0) + rng.normal(0, 2, (240, 4))
    rows = np.column_stack(
        [np.arange(240) // 4 % 20 + 1, found, rng.uniform(size=240), rng.choice([2, 5], 240)]
    )
    rows = rows.astype(np.float32).astype(np.float64)
    evaluation = COCOeval(truth, truth.loadRes(rows), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    ours = score(truth, rows, list(range(1, 21)), [2, 5])
    expected = [np.nan if value < 0 else 100 * value for value in evaluation.stats[:6]]
    assert np.isnan(expected[5]) == (largest == 90)
    np.testing.assert_array_equal([ours[name] for name in METRICS], expected)
