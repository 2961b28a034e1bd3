"""Fabricated sweeps of several detectors: records with their cost, latency and imbalance."""

import json
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from tests.helpers.fabricated import Plan, fabricate, label_of

BEGAN = datetime(2026, 5, 4, 10, tzinfo=timezone.utc)


@dataclass(frozen=True)
class Detector:
    """``model`` is the config's type, ``heads`` the watched losses (head, unit, candidates,
    positives), ``size_effects`` what its AP_S, AP_M and AP_L have above the fabricated ones."""

    model: str
    ms: float
    heads: tuple[tuple[str, str, float, float], ...] = ()
    effect: float = 0.0
    params: int = 1_234_567
    flops: int = 98_765_432
    size_effects: tuple[float, float, float] = (0.0, 0.0, 0.0)


DETECTORS = {
    "RetinaNet FL": Detector("RetinaNet", 8.7, (("bbox_head", "anchors", 1620, 11.2),), 12.0),
    "RetinaNet CE": Detector("RetinaNet", 8.7, (("bbox_head", "anchors", 1620, 11.2),), 9.0),
    "SSD": Detector("SingleStageDetector", 5.2, (("bbox_head", "anchors", 774, 5.1),), 2.0),
    "YOLOv3": Detector("YOLOV3", 6.0, (("bbox_head", "anchors", 432, 1.5),), 4.0),
    "Faster R-CNN": Detector(
        "FasterRCNN",
        21.0,
        (("rpn_head", "anchors", 540, 6.3), ("roi_head.bbox_head", "proposals", 128, 22.0)),
        13.0,
    ),
    "FCOS": Detector("FCOS", 8.1, (("bbox_head", "locations", 180, 9.0),), 11.0),
    "ATSS": Detector("ATSS", 8.3, (("bbox_head", "locations", 180, 7.0),), 12.5),
}


@dataclass(frozen=True)
class Sweep:
    """What to fabricate; ``lacking`` names fields that the records do not have."""

    detectors: dict[str, Detector] = field(default_factory=lambda: dict(DETECTORS))
    plan: Plan = field(default_factory=Plan)
    lacking: tuple[str, ...] = ()
    apart_s: float = 90.0  # from the start of a trial to that of the next; each takes 80 s
    baseline: str | None = "RetinaNet FL"


def fabricate_detectors(work_dir: Path, sweep: Sweep | None = None) -> Path:
    """Write a sweep of several detectors into ``work_dir`` and return it."""
    sweep = sweep or Sweep()
    named = {name: label_of({"detector": name}) for name in sweep.detectors}
    grid = {"name": "detectors", "table": None, "baseline": named.get(sweep.baseline or "")}
    points = [{"detector": name} for name in sweep.detectors]
    effects = {named[name]: each.effect for name, each in sweep.detectors.items()}
    fabricate(work_dir, replace(sweep.plan, points=points, effects=effects, grid=grid))
    for number, path in enumerate(sorted((work_dir / "trials").glob("*/record.json"))):
        record = json.loads(path.read_text())
        detector = sweep.detectors[record["point"]["detector"]]
        started = BEGAN + timedelta(seconds=number * sweep.apart_s)
        record["attempts"] = [
            {"started": started.isoformat(), "seconds": 80.0, "outcome": record["status"]}
        ]
        record["protocol"] = record["protocol"] | {"detector": detector.model}
        record["timings"]["inference_ms"] = detector.ms * (1 + 0.02 * record["seed"])
        for name, effect in zip(("AP_S", "AP_M", "AP_L"), detector.size_effects, strict=True):
            if record["metrics"]:
                record["metrics"][name] += effect
        record |= _more(detector, record["seed"])
        for name in sweep.lacking:
            record.pop(name, None)
            record["timings"].pop(name, None)
        path.write_text(json.dumps(record))
    return work_dir


def _more(detector: Detector, seed: int) -> dict[str, Any]:
    size = {"height": 96, "width": 96}
    shares = {"start": 0.97 - 0.01 * seed, "middle": 0.41, "end": 0.30 + 0.01 * seed}
    return {
        "complexity": {"params": detector.params, "flops": detector.flops, **size},
        "imbalance": [
            {
                "head": head,
                "unit": unit,
                "candidates": candidates,
                "positives": positives,
                "ce_negative_share": shares,
            }
            for head, unit, candidates, positives in detector.heads
        ],
    }
