"""Fabricated sweeps: written by the project's own functions, never trained.

AP comes from planted effects: a cell's mean, a seed's shift shared by all cells, and noise.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ablations.store import record as files
from ablations.store.files import sha256, write_json
from ablations.store.logit_histogram import LOGIT_BINS, LOGIT_LIMIT
from ablations.store.manifest import Entry, Manifest, trial_folder, write_manifest
from ablations.store.record import METRICS, Record, write_record
from ablations.store.status import STATUS
from ablations.sweep.grid import Point

GRID = [{"loss": "CE"}] + [
    {"gamma": gamma, "alpha": alpha}
    for gamma in (0.0, 0.5, 1.0, 2.0, 5.0)
    for alpha in (0.25, 0.5, 0.75)
]
PROTOCOL = {
    "detector": "RetinaNet",
    "backbone": "ResNet",
    "depth": 18,
    "scale": 96,
    "anchors_per_location": 9,
    "anchor_scales": [1.0, 1.26, 1.59],
    "anchor_ratios": [0.5, 1.0, 2.0],
    "batch_size": 16,
    "iterations": 1500,
    "lr": 0.002,
    "lr_steps": None,
    "optimizer": "AdamW",
    "weight_decay": 0.05,
    "momentum": None,
    "flip": False,
    "data": "digits",
    "loss_normaliser": "positives",
    "prior": 0.01,
    "pretrained": None,
    "regression_loss": "L1Loss",
}
VERSIONS = {
    **{"python": "3.11.7", "torch": "2.13.0+cpu", "torchvision": "0.28.0", "mmengine": "0.10.7"},
    **{"mmcv": "2.1.0", "mmdet": "3.3.0", "numpy": "2.4.6", "pycocotools": "2.0.11"},
}
CLASSES = tuple("0123456789")
STARTED = "2026-05-04T10:00:00+00:00"


@dataclass
class Plan:
    """What to fabricate. ``states`` maps (label, seed) to anything but ``finished``."""

    points: list[dict[str, Any]] = field(default_factory=lambda: list(GRID))
    seeds: tuple[int, ...] = (0, 1, 2)
    effects: dict[str, float] = field(default_factory=dict)  # label -> AP above 40
    noise: float = 0.3  # of one trial, in AP
    seed_shift: float = 0.5  # of a whole seed, in AP
    states: dict[tuple[str, int], str] = field(default_factory=dict)
    protocol: dict[str, Any] = field(default_factory=lambda: dict(PROTOCOL))
    grid: dict[str, Any] = field(default_factory=dict)
    files: bool = True  # curves and logits as well as records
    images: int = 0  # with this many images, annotations and predictions too
    groups: int = 0  # photographs that the images are crops of, in turn; 0: nothing is said
    group_key: str = "group"
    commands: dict[str, str] = field(default_factory=dict)  # started -> command; none: one
    trained: dict[int, str] = field(default_factory=dict)  # seed -> when its trials were
    iterations: int = 200
    generator_seed: int = 0
    images_dir: Path | None = None
    taken: dict[tuple[str, int], dict[str, str]] = field(default_factory=dict)  # Record.taken_from
    distinct: int = 0  # so many trials have files of their own, the others links; 0: all


def label_of(point: dict[str, Any]) -> str:
    return Point(point, {}).label


def fabricate(work_dir: Path, plan: Plan | None = None) -> Path:
    """Write a whole sweep into ``work_dir`` and return it."""
    plan = plan or Plan()
    rng = np.random.default_rng(plan.generator_seed)
    entries = [
        Entry(
            id=f"{index:03d}{seed:02d}{plan.generator_seed:03d}",
            point=point,
            label=label_of(point),
            seed=seed,
        )
        for index, point in enumerate(plan.points)
        for seed in plan.seeds
    ]
    work_dir.mkdir(parents=True, exist_ok=True)
    grid = {"name": "gamma_alpha", "title": "Fabricated.", "table": "table_1b"} | plan.grid
    first = f"python runners/sweep.py --grid {grid['name']}"
    manifest = Manifest(
        sweep=work_dir.name,
        grid=grid,
        config="configs/retinanet_r18_digits.py",
        options={"cfg_options": {}, "smoke": False},
        commands=[
            {"command": command, "started": started, "machine": "2 cores, no GPU"}
            for started, command in (plan.commands or {STARTED: first}).items()
        ],
        trials=entries,
    )
    write_manifest(work_dir, manifest)
    annotations = _annotations(work_dir, plan, rng) if plan.images else ""
    shifts = {seed: rng.normal(0, plan.seed_shift) for seed in plan.seeds}
    kept: list[dict[Path, str]] = []
    for number, entry in enumerate(entries):
        ap = 40 + plan.effects.get(entry.label, 0.0) + shifts[entry.seed]
        ap += rng.normal(0, plan.noise)
        state = plan.states.get((entry.label, entry.seed), "finished")
        cell = number // len(plan.seeds)
        full = plan.distinct and len(kept) >= plan.distinct
        links = kept[cell % plan.distinct] if full else None
        files = _trial(work_dir, plan, entry, state, ap, annotations, rng, links)
        if files and not links:
            kept.append(files)
    return work_dir


def _trial(
    work_dir: Path,
    plan: Plan,
    entry: Entry,
    state: str,
    ap: float,
    annotations: str,
    rng: np.random.Generator,
    links: dict[Path, str] | None,
) -> dict[Path, str]:
    """Returns the trial's files with their checksums."""
    if state == "pending":
        return {}
    folder = trial_folder(work_dir, entry.id)
    folder.mkdir(parents=True)
    if state == "interrupted":
        write_json(folder / STATUS, {"iteration": 120})
        return {}
    finished = state == "finished"
    files: dict[str, str] = {}
    if finished and links:
        files = _links(folder, links)
    elif finished:
        files = _files(folder, plan, entry, rng) if plan.files else {}
        if plan.images:
            files |= _predictions(work_dir, folder, annotations, ap, rng)
    offsets = dict(zip(METRICS, (0, 18, 2, -12, 1, 9), strict=True))
    metrics = {name: ap + offset for name, offset in offsets.items()} if finished else {}
    reasons = {"failed": "ValueError: no such thing", "diverged": "loss became NaN at iteration 12"}
    write_record(
        folder,
        Record(
            trial_id=entry.id,
            sweep=work_dir.name,
            point=entry.point,
            label=entry.label,
            seed=entry.seed,
            status=state,  # type: ignore[arg-type]
            reason=reasons.get(state),
            metrics=metrics,
            per_class={name: ap + 2 * float(name) - 9 for name in CLASSES} if finished else {},
            history=[{"iteration": float(plan.iterations), **metrics}] if finished else [],
            final={"loss": 0.4, "loss_cls": 0.2, "loss_bbox": 0.2},
            timings={
                "wall_s": 80.0,
                "device_s": 80.0,
                "iterations": float(plan.iterations),
                "iteration_s": 0.045,
                "inference_ms": 12.5 + entry.seed,
            },
            peak_memory_bytes=900_000_000,
            attempts=[{"started": plan.trained.get(entry.seed, STARTED), "outcome": state}],
            loss=_loss(entry.point),
            protocol=plan.protocol,
            data={
                "name": "digits",
                "version": "1",
                "train": {"annotations": "aa", "images": 4000, "boxes": 12000},
                "val": {
                    "annotations": annotations or "bb",
                    "images": plan.images,
                    "boxes": 0,
                    **_where(work_dir, plan, annotations),
                },
                "classes": list(CLASSES),
                **({} if plan.group_key == "group" else {"group_key": plan.group_key}),
            },
            versions=VERSIONS,
            git={"commit": "0123456789abcdef", "dirty": False},
            files=files,
            taken_from=plan.taken.get((entry.label, entry.seed), {}),
        ),
    )
    return {folder / name: digest for name, digest in files.items()}


def _loss(point: dict[str, Any]) -> dict[str, Any]:
    """Focal loss, of gamma = 2 and alpha = 0.25 if the point does not say, or another."""
    names = {"CE": "CrossEntropyLoss", "FL*": "FocalStarLoss", None: "FocalLoss", "FL": "FocalLoss"}
    return {"type": f"ablations.{names.get(point.get('loss'), 'OtherLoss')}", **point}


def _links(folder: Path, files: dict[Path, str]) -> dict[str, str]:
    """Another trial's files under this one's name."""
    for path in files:
        (folder / path.name).hardlink_to(path)
    return {path.name: digest for path, digest in files.items()}


def _where(work_dir: Path, plan: Plan, annotations: str) -> dict[str, str]:
    if plan.images_dir is None:
        return {}
    file = work_dir / f"annotations-{annotations}.json"
    return {"images_dir": str(plan.images_dir), "file": str(file)}


def _files(folder: Path, plan: Plan, entry: Entry, rng: np.random.Generator) -> dict[str, str]:
    """A curve that falls with noise, and logits of a detector that is mostly right."""
    n = plan.iterations
    decay = np.exp(-np.arange(n) / (n / 4))
    positive = 0.2 + 0.6 * decay * rng.uniform(0.9, 1.1, n)
    negative = 0.05 + 0.3 * decay * rng.uniform(0.8, 1.2, n)
    box = 0.3 + 0.5 * decay * rng.uniform(0.9, 1.1, n)
    columns = {
        "iteration": np.arange(1, n + 1),
        "lr": np.full(n, 0.002),
        "loss": positive + negative + box,
        "loss_cls": positive + negative,
        "loss_bbox": box,
        "loss_cls_positive": positive,
        "loss_cls_negative": negative,
        "num_positive": rng.integers(150, 200, n),
    }
    np.savez(folder / files.CURVE, **columns)
    gamma = float(entry.point.get("gamma", 0.0))
    logits = {
        "positive": logit_counts(rng.normal(0.5, 1.5, 2000)),
        "negative": logit_counts(rng.normal(-5 + 0.5 * gamma, 1.2, 40_000)),
    }
    totals = {f"{name}_total": np.int64(counts.sum()) for name, counts in logits.items()}
    np.savez(folder / files.PROBABILITIES, **logits, **totals)
    return {name: sha256(folder / name) for name in (files.CURVE, files.PROBABILITIES)}


def logit_counts(logits: np.ndarray) -> np.ndarray:
    """Counts on the record's grid, by numpy's histogram."""
    limit = LOGIT_LIMIT
    clipped = np.clip(logits, -limit, np.nextafter(limit, 0))
    return np.histogram(clipped, LOGIT_BINS, (-limit, limit))[0].astype(np.int64)


def _annotations(work_dir: Path, plan: Plan, rng: np.random.Generator) -> str:
    truth = random_truth(rng, plan.images, len(CLASSES))
    for number, image in enumerate(truth["images"]):
        if plan.groups:
            image[plan.group_key] = f"photograph {number % plan.groups}"
    draft = work_dir / "draft.json"
    draft.write_text(json.dumps(truth))
    digest = sha256(draft)
    draft.rename(work_dir / f"annotations-{digest}.json")
    return digest


def _predictions(
    work_dir: Path, folder: Path, annotations: str, ap: float, rng: np.random.Generator
) -> dict[str, str]:
    truth = json.loads((work_dir / f"annotations-{annotations}.json").read_text())
    found = random_predictions(rng, truth, jitter=0.5 / max(ap, 1.0) * 5)
    np.savez_compressed(folder / files.PREDICTIONS, **found)
    return {files.PREDICTIONS: sha256(folder / files.PREDICTIONS)}


def random_truth(
    rng: np.random.Generator, images: int, classes: int, crowd: float = 0.0, mean_boxes: float = 3.0
) -> dict[str, Any]:
    """COCO annotations with boxes of all sizes; a share of ``crowd`` regions."""
    annotations: list[dict[str, Any]] = []
    for image in range(images):
        for _ in range(int(rng.poisson(mean_boxes))):
            width, height = np.exp(rng.uniform(np.log(10), np.log(250), 2)).round(2)
            x, y = rng.uniform(0, 300, 2).round(2)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image + 1,
                    "category_id": int(rng.integers(classes)) + 1,
                    "bbox": [float(x), float(y), float(width), float(height)],
                    "area": float(width * height * rng.uniform(0.6, 1.0)),
                    "iscrowd": int(rng.random() < crowd),
                }
            )
    return {
        "images": [
            {"id": image + 1, "file_name": f"{image}.png", "width": 640, "height": 640}
            for image in range(images)
        ],
        "categories": [{"id": c + 1, "name": str(c)} for c in range(classes)],
        "annotations": annotations,
    }


def random_predictions(
    rng: np.random.Generator,
    truth: dict[str, Any],
    jitter: float = 0.1,
    false_per_image: float = 4.0,
    decimals: int = 7,
) -> dict[str, np.ndarray]:
    """Jittered truth, duplicates and false alarms, as ``predictions.npz`` holds them. Few
    ``decimals`` in the scores make many ties."""
    images, categories, boxes, scores = [], [], [], []
    classes = len(truth["categories"])
    for annotation in truth["annotations"]:
        for _ in range(1 + int(rng.random() < 0.3)):
            box = np.asarray(annotation["bbox"])
            size = np.array([box[2], box[3], box[2], box[3]])
            box = box + rng.normal(0, jitter, 4) * size
            box[2:] = np.maximum(box[2:], 1.0)
            wrong = rng.random() < 0.1
            category = int(rng.integers(classes)) + 1 if wrong else annotation["category_id"]
            images.append(annotation["image_id"])
            categories.append(category)
            boxes.append(box)
            scores.append(rng.beta(4, 2))
    for image in truth["images"]:
        for _ in range(int(rng.poisson(false_per_image))):
            images.append(image["id"])
            categories.append(int(rng.integers(classes)) + 1)
            boxes.append([*rng.uniform(0, 300, 2), *np.exp(rng.uniform(2.3, 5.5, 2))])
            scores.append(rng.beta(1.5, 4))
    return {
        "image_ids": np.array([image["id"] for image in truth["images"]], dtype=np.int64),
        "image_id": np.array(images, dtype=np.int64),
        "category_id": np.array(categories, dtype=np.int64),
        "bbox": np.array(boxes, dtype=np.float32).reshape(-1, 4),
        "score": np.round(np.array(scores), decimals).astype(np.float32),
    }
