"""Box AP as pycocotools computes it, unrounded, with the predictions kept for later."""

import contextlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ablations.sweep import record
from ablations.training.arrays import write_arrays


@METRICS.register_module()
class BoxAP(BaseMetric):
    """COCO box AP in percent: ``record.METRICS``, and ``AP/<class>`` for every class.

    mmdet's ``CocoMetric`` gives the same figures rounded to three decimals of one; differences
    between losses are smaller than that.

    Args:
        ann_file: annotations in COCO format.
        outfile: where to keep the predictions (``record.PREDICTION_COLUMNS``), or ``None``.
        limit: COCO's detections per image.
    """

    default_prefix = "coco"

    def __init__(
        self, ann_file: str, outfile: str | None = None, limit: int = 100, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.limit = limit
        self.outfile = outfile
        with contextlib.redirect_stdout(io.StringIO()):
            self.truth = COCO(ann_file)

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Collect one batch of predictions, as rows of image id, x, y, w, h, score, label."""
        for sample in data_samples:
            found = sample["pred_instances"]
            boxes = found["bboxes"].cpu().numpy()
            rows = np.empty((len(boxes), 7))
            rows[:, 0] = sample["img_id"]
            rows[:, 1:3] = boxes[:, :2]
            rows[:, 3:5] = boxes[:, 2:] - boxes[:, :2]
            rows[:, 5] = found["scores"].cpu().numpy()
            rows[:, 6] = found["labels"].cpu().numpy()
            self.results.append((sample["img_id"], rows))

    def compute_metrics(self, results: list[tuple[int, NDArray[np.float64]]]) -> dict[str, float]:
        """Score all images of the validation set; an undefined figure is NaN."""
        image_ids = [image_id for image_id, _ in results]
        rows = np.concatenate([rows for _, rows in results])
        names = list(self.dataset_meta["classes"])
        category_ids = self.truth.getCatIds(catNms=names)
        rows[:, 6] = np.asarray(category_ids)[rows[:, 6].astype(int)]
        if self.outfile is not None:
            self._keep(Path(self.outfile), rows, image_ids)
        return score(self.truth, rows, image_ids, category_ids, self.limit)

    @staticmethod
    def _keep(path: Path, rows: NDArray[np.float64], image_ids: list[int]) -> None:
        write_arrays(
            path,
            image_ids=np.asarray(image_ids, np.int64),
            image_id=rows[:, 0].astype(np.int64),
            category_id=rows[:, 6].astype(np.int64),
            bbox=rows[:, 1:5].astype(np.float32),
            score=rows[:, 5].astype(np.float32),
        )


def score(
    truth: COCO,
    rows: NDArray[np.float64],
    image_ids: Sequence[int],
    category_ids: Sequence[int],
    limit: int = 100,
) -> dict[str, float]:
    """COCO's figures for some detections.

    Args:
        truth: the annotations.
        rows: [N, 7]: image id, x, y, w, h, score, category id.
        image_ids: the images that were looked at.
        category_ids: the classes, in the model's order.
        limit: detections per image that count.

    Returns:
        ``record.METRICS`` and ``AP/<class name>`` in percent; NaN where there is no such object.
    """
    rows = rows.astype(np.float32).astype(np.float64)  # what the kept predictions hold
    with contextlib.redirect_stdout(io.StringIO()):
        if len(rows):
            found = truth.loadRes(rows)
        else:
            found = COCO()
            found.dataset = {**truth.dataset, "annotations": []}
            found.createIndex()
        evaluation = COCOeval(truth, found, "bbox")
        evaluation.params.imgIds = sorted(image_ids)
        evaluation.params.catIds = list(category_ids)
        evaluation.params.maxDets = [1, 10, limit]
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    values = dict(zip(record.METRICS, evaluation.stats[:6], strict=True))
    precision = evaluation.eval["precision"][:, :, :, 0, -1]  # [IoU, recall, class]
    # COCOeval sorts the categories.
    for column, category in enumerate(truth.loadCats(evaluation.params.catIds)):
        known = precision[:, :, column][precision[:, :, column] > -1]
        values[f"AP/{category['name']}"] = known.mean() if known.size else -1.0
    return {name: float("nan") if value < 0 else 100 * value for name, value in values.items()}
