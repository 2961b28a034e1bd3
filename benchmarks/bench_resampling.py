"""Time 1,000 exact resamples on a problem of COCO's size, beside pycocotools.

``OMP_NUM_THREADS=1 python -m benchmarks.bench_resampling FILE`` writes the result. It takes some
minutes and 8 GB, nearly all of it for pycocotools.
"""

import contextlib
import io
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from tests.helpers.coco_sized import CLASSES, DETECTIONS, IMAGES, coco_sized

OURS = """
import json, resource, sys, time
import numpy as np
from tests.helpers.coco_sized import CLASSES, IMAGES, coco_sized
from ablations.analysis.matching import match
from ablations.analysis.resampling import figures, image_weights, resampled_figures
annotations, found = coco_sized(np.random.default_rng(0))
start, busy = time.perf_counter(), time.process_time()
matches = match(annotations, found, range(1, IMAGES + 1), range(1, CLASSES + 1))
matched, mid = time.perf_counter(), time.process_time()
weights = image_weights(IMAGES, 1000, np.random.default_rng(1))
resampled_figures(matches, weights, threads=2)
end, cpu = time.perf_counter(), time.process_time() - mid
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
print(json.dumps({"match": matched - start, "resample": end - matched, "cpu": cpu,
                  "match_cpu": mid - busy, "peak_gb": peak,
                  "figures": list(figures(matches).values())}))
"""


def ours() -> dict[str, float]:
    """Seconds and peak memory of matching and of 1,000 resamples, in a process of its own."""
    root = Path(__file__).parents[1]
    return json.loads(subprocess.check_output([sys.executable, "-c", OURS], cwd=root, text=True))


def pycocotools() -> dict[str, float]:
    """CPU seconds of one full evaluation, of which ``accumulate`` in seconds; the six figures."""
    annotations, found = coco_sized(np.random.default_rng(0))
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "images": [{"id": image + 1} for image in range(IMAGES)],
            "categories": [{"id": k + 1, "name": str(k)} for k in range(CLASSES)],
            "annotations": annotations,
        }
        truth.createIndex()
        columns = (found["image_id"], found["bbox"], found["score"], found["category_id"])
        detections = truth.loadRes(np.column_stack(columns).astype(np.float64))
        evaluation = COCOeval(truth, detections, "bbox")
        start = time.process_time()
        evaluation.evaluate()
        middle = time.process_time()
        evaluation.accumulate()
        end = time.process_time()
        evaluation.summarize()
    return {
        "call": end - start,
        "accumulate": end - middle,
        "figures": [100 * value for value in evaluation.stats[:6]],
    }


def write(path: Path) -> None:
    mine, theirs = ours(), pycocotools()
    gap = float(np.abs(np.subtract(mine["figures"], theirs["figures"])).max())
    total = mine["match_cpu"] + mine["cpu"]
    accumulate = 1000 * theirs["accumulate"] / mine["cpu"]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f"""# Exact AP under resampled images

Written by `python -m benchmarks.bench_resampling`, two cores, two threads.

A synthetic problem of COCO's size: {IMAGES:,} images, {CLASSES} classes, {DETECTIONS} detections an
image. One trial, all six COCO figures. CPU seconds are compared, because the cores were shared.

| | |
| --- | ---: |
| matching, once a trial | {mine["match_cpu"]:.1f} s |
| 1,000 resamples | {mine["cpu"]:.1f} s |
| peak memory | {mine["peak_gb"]:.2f} GB |
| largest difference from pycocotools, six figures in percent | {gap:.1e} |
| pycocotools, one evaluation | {theirs["call"]:.1f} s |
| of that `accumulate` | {theirs["accumulate"]:.1f} s |
| 1,000 evaluations over ours, matching included | {1000 * theirs["call"] / total:,.0f} x |
| 1,000 times `accumulate` alone over our resamples | {accumulate:,.0f} x |
""",
        encoding="utf-8",
    )


if __name__ == "__main__":
    write(Path(sys.argv[1]))
