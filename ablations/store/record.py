"""The record: the outcome of a trial, and the names of the files beside it.

A sweep's work directory::

    work_dirs/<sweep>/
        manifest.json              the sweep: grid, options, its trials (``manifest``)
        annotations-<sha256>.json  the validation annotations that the trials were scored on
        trials/<trial id>/
            trial.json             the plan: grid point, seed, loss, data, what the id hashes
            config.py              the resolved OpenMMLab config
            status.json            the state while there is no record (``status``)
            record.json            the outcome; written once, after all other files
            curve.npz              every iteration's loss (``CURVE_COLUMNS``)
            predictions.npz        detections on the validation set (``PREDICTION_COLUMNS``)
            probabilities.npz      the sampled logits for the loss CDFs (``logit_histogram``)
            checkpoint.pth         the state to resume from, checkpoint-previous.pth the one
                                   before; weights.pth the final weights
            log.txt                everything the trial printed

``record.json`` carries the SHA-256 of each file that belongs to the result.
"""

from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin

from ablations.store.files import read_json, sha256, write_json

SCHEMA_VERSION = 4
READABLE = (1, 2, 3, 4)
"""Schemas that can be read. Schema 1 has no ``taken_from``, schemas 1 and 2 no ``code``, schemas 1
to 3 neither ``complexity`` nor ``imbalance``."""

RECORD = "record.json"
TRIAL = "trial.json"
CONFIG = "config.py"
CURVE = "curve.npz"
PREDICTIONS = "predictions.npz"
PROBABILITIES = "probabilities.npz"
CHECKPOINT = "checkpoint.pth"
PREVIOUS = "checkpoint-previous.pth"
WEIGHTS = "weights.pth"
LOG = "log.txt"

METRICS = ("AP", "AP50", "AP75", "AP_S", "AP_M", "AP_L")
"""COCO's box AP over IoU .50:.95, at .50, at .75, and for small, medium and large; percent."""

CURVE_COLUMNS = (
    "iteration",  # int, from 1
    "lr",
    "loss",  # the total that was minimised
    "loss_cls",
    "loss_bbox",
    "loss_cls_positive",  # loss_cls = positive + negative; NaN where a loss cannot be split
    "loss_cls_negative",
    "num_positive",  # anchors assigned to an object in the batch: the normaliser
)
"""Arrays of ``curve.npz``, each of shape [iterations]."""

PREDICTION_COLUMNS = ("image_id", "category_id", "bbox", "score")
"""Arrays of ``predictions.npz``: int64 [N], int64 [N], float32 [N, 4] as x, y, w, h in pixels of
the original image, float32 [N]. ``image_ids`` (int64) beside them lists every scored image."""

Status = Literal["finished", "diverged", "failed"]


@dataclass(frozen=True)
class Record:
    """The outcome of one trial. Metrics are in percent, times in seconds, memory in bytes."""

    trial_id: str
    sweep: str
    point: dict[str, Any]  # the grid's coordinates, e.g. {"gamma": 2.0, "alpha": 0.25}
    label: str  # the point for people, e.g. "gamma=2 alpha=0.25"
    seed: int
    status: Status
    reason: str | None = None  # why it diverged or failed, one line
    metrics: dict[str, float | None] = field(default_factory=dict)  # METRICS; None: undefined
    per_class: dict[str, float | None] = field(default_factory=dict)  # class name -> AP
    history: list[dict[str, float]] = field(default_factory=list)  # METRICS at "iteration"
    final: dict[str, float] = field(default_factory=dict)  # mean of the curve's last 50 rows
    timings: dict[str, float] = field(default_factory=dict)
    # timings: wall_s, device_s (wall x processes) and iterations over all attempts; iteration_s
    # (median) of the last attempt; inference_ms: one image, batch of 1 (the fastest of some
    # repeats, median over images)
    complexity: dict[str, float] = field(default_factory=dict)
    # complexity: params, flops (multiply-adds of one image, as mmengine counts them), height and
    # width of the network's input; empty where it could not be counted
    imbalance: list[dict[str, Any]] = field(default_factory=list)
    # imbalance: for each classification head that gave labels: head (its path in the model), unit
    # (anchors, locations or proposals), candidates and positives (of a training image, mean over
    # some iterations; without the ignored), before_sampling (the same two, where a sampler draws
    # from more) and ce_negative_share (start, middle, end: the negatives' share of plain CE,
    # whatever loss is trained; None where it cannot be had)
    imbalance_missing: str | None = None  # why there is no imbalance, one line
    device: str = "cpu"
    peak_memory_bytes: int = 0
    attempts: list[dict[str, Any]] = field(default_factory=list)  # started, ended, outcome
    loss: dict[str, Any] = field(default_factory=dict)  # the config of loss_cls as built
    protocol: dict[str, Any] = field(default_factory=dict)  # the fingerprint
    data: dict[str, Any] = field(default_factory=dict)
    # data: name, version, train and val: {annotations (SHA-256), images, boxes}, classes; group_key
    # where the config names the key of an image's group (its photograph, video or site)
    versions: dict[str, str] = field(default_factory=dict)
    git: dict[str, Any] = field(default_factory=dict)  # commit, dirty; empty outside a checkout
    code: dict[str, str] = field(default_factory=dict)
    # code: digests of ablations.losses, ablations.training and the user's modules (``store.code``)
    files: dict[str, str] = field(default_factory=dict)  # name -> SHA-256
    taken_from: dict[str, str] = field(default_factory=dict)
    # taken_from: sweep, work_dir (as given, never absolute) and command that trained the trial;
    # empty for a trial that was trained in its own sweep
    schema_version: int = SCHEMA_VERSION


def planned(trial: dict[str, Any]) -> dict[str, Any]:
    """The fields of a record that are known before the trial starts, from its ``trial.json``."""
    names = ("sweep", "point", "label", "seed", "loss", "data")
    return {"trial_id": trial["id"], **{name: trial[name] for name in names}}


def write_record(folder: Path, record: Record) -> None:
    """Write ``record`` into a trial's folder, after all its other files.

    Raises:
        FileExistsError: the folder has a record already; a record is never overwritten.
    """
    path = folder / RECORD
    if path.exists():
        raise FileExistsError(f"{path} exists already and is not overwritten")
    write_json(path, asdict(record), lasting=True)


class DamagedRecordError(ValueError):
    """A record is there and cannot be read; the message names its file and says why."""


class LaterRecordError(DamagedRecordError):
    """A record is there that a later version of this code has written."""


def read_record(folder: Path) -> Record | None:
    """A trial's record, or ``None`` while it has none.

    Raises:
        DamagedRecordError: the file is not a record of a schema that this code reads.
    """
    path = folder / RECORD
    try:
        value = read_json(path)
    except (ValueError, OSError) as error:
        raise DamagedRecordError(f"{path} cannot be read: {error}") from error
    if value is None:
        return None
    version = value.get("schema_version") if isinstance(value, dict) else None
    if version not in READABLE:
        later = type(version) is int and version > SCHEMA_VERSION
        kind = LaterRecordError if later else DamagedRecordError
        raise kind(f"{path} has schema_version {version}; this code reads {READABLE}")
    if value.get("status") not in get_args(Status):
        raise DamagedRecordError(
            f"{path} has status {value.get('status')!r}, not one of {get_args(Status)}"
        )
    try:
        record = Record(**value)
    except TypeError as error:
        raise DamagedRecordError(f"{path} is no record: {error}") from error
    if wrong := _ill_typed(record):
        raise DamagedRecordError(f"{path} is no record: {wrong} is {getattr(record, wrong)!r}")
    return record


_PLAIN = {dict, list, str, int, NoneType}


def kinds(annotation: Any) -> tuple[type, ...]:
    """The classes that a field's annotation allows."""
    each = get_args(annotation) if isinstance(annotation, UnionType) else (annotation,)
    return tuple(get_origin(one) or one for one in each)


def _ill_typed(record: Record) -> str | None:
    """The first field whose value is of another type than the record's."""
    for each in fields(Record):
        value, allowed = getattr(record, each.name), kinds(each.type)
        if set(allowed) <= _PLAIN and not isinstance(value, allowed):
            return each.name
        kind, inner = allowed[0], get_args(each.type)
        if kind is list and not all(isinstance(row, dict) for row in value):
            return each.name
        if kind is dict and inner[1] is str and not all(isinstance(v, str) for v in value.values()):
            return each.name
        numbers = kind is dict and "float" in str(each.type)
        if numbers and not all(v is None or isinstance(v, int | float) for v in value.values()):
            return each.name
    return None


def damaged_files(folder: Path, record: Record) -> list[str]:
    """Names of the files in the record that are missing or whose checksum differs."""
    return [
        name
        for name, digest in record.files.items()
        if not (folder / name).is_file() or sha256(folder / name) != digest
    ]
