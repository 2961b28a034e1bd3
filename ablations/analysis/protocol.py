"""Whether a trial was trained under the paper's protocol, and if not, what differs.

The fingerprint is ``record.protocol``. Differences from the paper's numbers are only meaningful
where it matches, so they are only given there.
"""

from collections.abc import Iterable
from typing import Any

from ablations.analysis.study import Study

PAPER: dict[str, Any] = {
    "detector": "RetinaNet",
    "backbone": "ResNet",
    "depth": 50,
    "scale": 600,
    "anchors_per_location": 9,
    "anchor_scales": [1.0, 2 ** (1 / 3), 2 ** (2 / 3)],
    "anchor_ratios": [0.5, 1.0, 2.0],
    "batch_size": 16,
    "iterations": 90_000,
    "lr": 0.01,
    "lr_steps": [60_000, 80_000],
    "optimizer": "SGD",
    "weight_decay": 1e-4,
    "momentum": 0.9,
    "flip": True,
    "data": "coco",
    "prior": 0.01,
    "pretrained": True,
    "regression_loss": "SmoothL1Loss",
}
"""Tables 1a and 1b. The paper does not say how a batch's losses are normalised (it speaks of one
image), so ``loss_normaliser`` is not compared."""

TOLERANCE = 0.01
"""Relative; an anchor scale may be written 1.26 for the cube root of 2."""


def differs_from_paper(protocol: dict[str, Any], varied: Iterable[str] = ()) -> list[str]:
    """What keeps ``protocol`` from being the paper's, one phrase a field; empty if nothing does.

    Args:
        protocol: ``record.protocol``.
        varied: fields that the grid itself varies; they are not compared.
    """
    return [
        f"{name} {_shown(protocol.get(name))} (the paper's: {_shown(wanted)})"
        for name, wanted in PAPER.items()
        if name not in set(varied) and not _same(name, protocol.get(name), wanted)
    ]


def study_differs_from_paper(study: Study) -> list[str]:
    """The same for all records of a study; a study without records differs by having none."""
    protocols = [state.record.protocol for state in study.records if state.record is not None]
    if not protocols:
        return ["no trial has a record"]
    found = [line for protocol in protocols for line in differs_from_paper(protocol, study.axes)]
    return list(dict.fromkeys(found))


def _same(name: str, value: Any, wanted: Any) -> bool:
    if isinstance(wanted, bool):
        return bool(value) == wanted
    if isinstance(wanted, list):
        return (
            isinstance(value, list | tuple)
            and len(value) == len(wanted)
            and all(_same(name, *pair) for pair in zip(sorted(value), sorted(wanted), strict=True))
        )
    if isinstance(wanted, str):
        return _is_named(name, str(value).lower(), wanted.lower())
    return isinstance(value, int | float) and abs(value - wanted) <= TOLERANCE * abs(wanted)


def _is_named(name: str, value: str, wanted: str) -> bool:
    """``CocoDataset`` and ``coco_2017`` are COCO; otherwise names are compared as they are."""
    return value.startswith(wanted) if name == "data" else value == wanted


def _shown(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_shown(entry) for entry in value) + "]"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
