"""Whether a trial was trained under the paper's protocol, and if not, what differs.

The fingerprint is ``record.protocol``. Differences from the paper's numbers are only meaningful
where it matches, so they are only given there.
"""

import math
from collections.abc import Iterable
from typing import Any

from ablations.analysis.paper import table_named
from ablations.analysis.study import Study

PAPER: dict[str, Any] = {
    "detector": "RetinaNet",
    "backbone": "ResNet",
    "depth": 50,
    "scale": 600,
    "subnet_convs": 4,
    "subnet_channels": 256,
    "octave_base_scale": 4,
    "anchor_scales": 3,
    "anchor_ratios": 3,
    "anchors_per_location": 9,
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
"""Tables 1a to 1c. Anchor scales and ratios are counts, ``flip`` and ``pretrained`` mean "at all".
The paper does not say how the losses of a batch are normalised (it speaks of one image), so
``loss_normaliser`` is not compared."""

OF_TABLE: dict[str, dict[str, Any]] = {"1d": {"depth": 101}}
"""The differences of other tables."""


def differs_from_paper(
    protocol: dict[str, Any], table: str = "1b", varied: Iterable[str] = ()
) -> list[str]:
    """How ``protocol`` differs from the paper's, one phrase a field; empty if it does not.

    Args:
        protocol: ``record.protocol``.
        table: number of the paper's table.
        varied: fields that the grid itself varies; they are not compared.
    """
    if table == "1e":
        return ["Table 1e was measured on test-dev, and nothing local is compared with that"]
    return [
        f"{name} {_shown(protocol.get(name))} (the paper's: {_shown(wanted)})"
        for name, wanted in (PAPER | OF_TABLE.get(table, {})).items()
        if name not in set(varied) and not _same(name, protocol.get(name), wanted)
    ]


def study_differs_from_paper(study: Study) -> list[str]:
    """The same for all records of a study. Having no records is a difference too."""
    protocols = [state.record.protocol for state in study.records if state.record is not None]
    if not protocols:
        return ["no trial has a record"]
    table = table_named(study.manifests[0].grid.get("table"))
    number = table.number if table is not None else "1b"
    varied = [
        name for name in PAPER if any(p.get(name) != protocols[0].get(name) for p in protocols)
    ]
    return differs_from_paper(protocols[0], number, varied)


def _same(name: str, value: Any, wanted: Any) -> bool:
    if isinstance(wanted, bool):
        return bool(value) == wanted
    if isinstance(wanted, list):
        return isinstance(value, list | tuple) and list(value) == wanted
    if isinstance(wanted, str):
        named = str(value).lower()
        # CocoDataset and coco_2017 are COCO; other names are compared as they are.
        return named.startswith(wanted) if name == "data" else named == wanted.lower()
    if isinstance(value, list | tuple):
        value = len(value)
    return isinstance(value, int | float) and math.isclose(value, wanted, rel_tol=1e-6)


def _shown(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_shown(entry) for entry in value) + "]"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
