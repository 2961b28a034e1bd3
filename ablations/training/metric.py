"""Box AP as pycocotools computes it, unrounded. The predictions are kept."""

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
from pycocotools.cocoeval import COCOeval, Params

from ablations.store import record
from ablations.store.arrays import write_arrays


@METRICS.register_module()
class BoxAP(BaseMetric):
    """COCO box AP in percent: ``record.METRICS``, and ``AP/<class>`` for every class.

    mmdet's ``CocoMetric`` rounds the same values to 0.1 percent; some differences between losses
    are smaller than that.

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
        """Score all images of the validation set; an undefined value is NaN."""
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
    rows = rows.copy()  # with boxes and scores as the kept predictions hold them
    rows[:, 1:6] = rows[:, 1:6].astype(np.float32)
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
        # Evaluation takes seconds, so compute only METRICS, and leave out empty area ranges.
        evaluation.params.maxDets = [limit]
        areas = _occupied_areas(truth, evaluation.params)
        evaluation.params.areaRng = [evaluation.params.areaRng[area] for area in areas]
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][..., 0]  # [IoU, recall, class, area]
    whole = precision[..., 0]
    chosen = {"AP": whole, "AP50": whole[0], "AP75": whole[5]}
    names = ("AP", "AP_S", "AP_M", "AP_L")
    chosen |= {names[area]: precision[..., column] for column, area in enumerate(areas) if area}
    # COCOeval sorts the categories.
    for column, category in enumerate(truth.loadCats(evaluation.params.catIds)):
        chosen[f"AP/{category['name']}"] = whole[:, :, column]
    values = dict.fromkeys(record.METRICS, float("nan"))
    return values | {name: _mean_known(part) for name, part in chosen.items()}


def _occupied_areas(truth: COCO, params: Params) -> list[int]:
    """Indices of the area ranges that contain an object, and always the first (all areas).

    An object on the border of two ranges is in both.
    """
    ids = truth.getAnnIds(imgIds=params.imgIds, catIds=params.catIds)
    areas = np.array([annotation["area"] for annotation in truth.loadAnns(ids)])
    ranges = enumerate(params.areaRng)
    return [i for i, (low, high) in ranges if not i or ((low <= areas) & (areas <= high)).any()]


def _mean_known(precision: NDArray[np.float64]) -> float:
    """Mean in percent, without the entries -1 (COCOeval's mark for no object); NaN if all are."""
    known = precision[precision > -1]
    return 100 * float(np.mean(known)) if known.size else float("nan")
