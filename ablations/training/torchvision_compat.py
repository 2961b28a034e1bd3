"""Let ``import torchvision`` succeed beside a CPU build of torch.

The torchvision wheel on PyPI has operators built for CUDA. They do not load beside a CPU torch, and
the import then fails at the schemas of ``nms`` and ``qnms``. Declaring these two is enough for the
import; RetinaNet uses mmcv's NMS and never calls them. If the operators load, nothing is declared.
"""

import importlib.util
from pathlib import Path

import torch

_SIGNATURE = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_OPERATORS = ("nms", "qnms")
_library: torch.library.Library | None = None


def declare_missing_operators() -> None:
    """Declare torchvision's NMS schemas where its compiled operators cannot be loaded."""
    global _library
    spec = importlib.util.find_spec("torchvision")
    if _library is not None or spec is None or spec.origin is None:
        return
    for compiled in Path(spec.origin).parent.glob("_C*.so"):
        try:
            torch.ops.load_library(str(compiled))
        except OSError:
            break
        return
    _library = torch.library.Library("torchvision", "DEF")
    for name in _OPERATORS:
        _library.define(name + _SIGNATURE)
