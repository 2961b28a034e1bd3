"""Resampling agrees with pycocotools, on the data and on resamples written out in full."""

import contextlib
import copy
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ablations.analysis.matching import match, match_trial
from ablations.analysis.resampling import (
    figures,
    image_weights,
    resampled_ap,
    resampled_figures,
)
from ablations.store.record import METRICS
from benchmarks.bench_resampling import ours
from tests.helpers.fabricated import random_predictions, random_truth


def by_pycocotools(truth: dict[str, Any], found: dict[str, np.ndarray]) -> list[float]:
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = copy.deepcopy(truth)
        coco.createIndex()
        rows = [
            {
                "image_id": int(found["image_id"][i]),
                "category_id": int(found["category_id"][i]),
                "bbox": [float(v) for v in found["bbox"][i]],
                "score": float(found["score"][i]),
            }
            for i in range(len(found["score"]))
        ]
        evaluation = COCOeval(coco, coco.loadRes(rows), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [100 * v if v >= 0 else np.nan for v in evaluation.stats[:6]]


def matched(truth: dict[str, Any], found: dict[str, np.ndarray]) -> Any:
    images = [image["id"] for image in truth["images"]]
    categories = [category["id"] for category in truth["categories"]]
    return match(truth["annotations"], found, images, categories)


def written_out(
    truth: dict[str, Any], found: dict[str, np.ndarray], weights: np.ndarray
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The data set that has image i weights[i] times; copies follow their original."""
    copies = truth | {"images": [], "annotations": []}
    parts: dict[str, list[Any]] = {
        name: [] for name in ("image_id", "category_id", "bbox", "score")
    }
    for image, times in zip(truth["images"], weights, strict=True):
        for _ in range(times):
            new = len(copies["images"]) + 1
            copies["images"].append(image | {"id": new})
            for annotation in truth["annotations"]:
                if annotation["image_id"] == image["id"]:
                    fresh = {"id": len(copies["annotations"]) + 1, "image_id": new}
                    copies["annotations"].append(annotation | fresh)
            for i in np.flatnonzero(found["image_id"] == image["id"]):
                parts["image_id"].append(new)
                for name in ("category_id", "bbox", "score"):
                    parts[name].append(found[name][i])
    return copies, {name: np.array(values) for name, values in parts.items()}


@pytest.mark.parametrize(
    ("images", "classes", "crowd", "decimals"),
    [(60, 5, 0.0, 7), (60, 5, 0.2, 7), (60, 3, 0.1, 1), (8, 20, 0.1, 2), (1, 1, 0.0, 7)],
)
def test_the_identity_resample_is_pycocotools(
    images: int, classes: int, crowd: float, decimals: int
) -> None:
    rng = np.random.default_rng(images + classes)
    truth = random_truth(rng, images, classes, crowd)
    found = random_predictions(rng, truth, decimals=decimals)
    ours = figures(matched(truth, found))
    assert list(ours) == list(METRICS)
    np.testing.assert_allclose(list(ours.values()), by_pycocotools(truth, found), atol=1e-6)


def test_more_than_a_hundred_detections_of_an_image_and_class_are_cut() -> None:
    rng = np.random.default_rng(5)
    truth = random_truth(rng, 3, 1, mean_boxes=6)
    found = random_predictions(rng, truth, false_per_image=180, decimals=2)
    assert len(found["score"]) > 400
    ours = figures(matched(truth, found))
    np.testing.assert_allclose(list(ours.values()), by_pycocotools(truth, found), atol=1e-6)


def test_a_resample_is_pycocotools_on_the_data_set_written_out() -> None:
    rng = np.random.default_rng(11)
    truth = random_truth(rng, 40, 4, crowd=0.1)
    found = random_predictions(rng, truth)
    weights = image_weights(40, 6, rng)
    weights[0] = 0
    weights[0, 3] = 40
    ours = resampled_figures(matched(truth, found), weights)
    for row, expected in zip(weights, ours, strict=True):
        np.testing.assert_allclose(
            expected, by_pycocotools(*written_out(truth, found, row)), atol=1e-6
        )


def test_a_class_without_objects_counts_nowhere_and_no_detection_is_no_ap() -> None:
    truth = random_truth(np.random.default_rng(0), 5, 2)
    truth["categories"].append({"id": 3, "name": "absent"})
    nothing = {
        "image_id": np.zeros(0, np.int64),
        "category_id": np.zeros(0, np.int64),
        "bbox": np.zeros((0, 4), np.float32),
        "score": np.zeros(0, np.float32),
    }
    matches = matched(truth, nothing)
    assert figures(matches)["AP"] == 0.0
    assert np.isnan(resampled_ap(matches, np.ones((1, 5), np.int32))[:, :, 2]).all()


def test_columns_do_not_depend_on_each_other_or_on_threads() -> None:
    rng = np.random.default_rng(3)
    truth = random_truth(rng, 30, 3)
    matches = matched(truth, random_predictions(rng, truth))
    weights = image_weights(30, 300, rng)
    whole = resampled_figures(matches, weights, threads=2)
    alone = resampled_figures(matches, weights[200:201])
    np.testing.assert_allclose(whole[200:201], alone, rtol=1e-12)


def test_weights_sum_to_the_number_of_images() -> None:
    weights = image_weights(50, 20, np.random.default_rng(0))
    assert weights.shape == (20, 50)
    assert (weights.sum(axis=1) == 50).all()


def test_weights_of_another_data_set_are_refused() -> None:
    truth = random_truth(np.random.default_rng(0), 5, 2)
    matches = matched(truth, random_predictions(np.random.default_rng(0), truth))
    with pytest.raises(ValueError, match="5 images"):
        resampled_figures(matches, np.ones((2, 4), np.int32))


def test_a_trial_is_matched_from_its_files(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    truth = random_truth(rng, 12, 3)
    found = random_predictions(rng, truth)
    annotations, predictions = tmp_path / "annotations.json", tmp_path / "predictions.npz"
    annotations.write_text(json.dumps(truth))
    np.savez(predictions, **found)
    assert figures(match_trial(annotations, predictions)) == figures(matched(truth, found))
    one = match_trial(annotations, predictions, ["0"])
    assert list(one.category_ids) == [1]
    with pytest.raises(ValueError, match="missing"):
        match_trial(tmp_path / "nothing.json", predictions)


@pytest.mark.slow
def test_a_thousand_resamples_of_a_coco_sized_trial_take_a_minute_and_two_gigabytes() -> None:
    measured = ours()
    assert measured["cpu"] < 2 * 60  # on two cores; by CPU time, since they may be shared
    assert measured["peak_gb"] < 2
