"""What mmcv's operators take for granted: tensors whose elements lie in the order of their shape.

Their kernels read memory in that order. Given features in channels-last order, as the convolutions
of a channels-last detector make them, ``DeformConv2d`` raises an error, and ``RoIAlign`` quietly
reads others' values: a two-stage detector then trains on noise.
"""

import functools
import sys
from collections.abc import Callable
from typing import Any

import mmcv.ops  # noqa: F401 - loads the modules that are looked through
import torch
from torch.autograd import Function


def mend_operators() -> None:
    """Hand every operator of mmcv its tensors in the order of their shape, copied if need be."""
    modules = [module for name, module in sys.modules.items() if name.startswith("mmcv.ops.")]
    found = {value for module in modules for value in vars(module).values() if _is_operator(value)}
    for operator in found:
        for name in ("forward", "backward"):
            setattr(operator, name, staticmethod(_in_order(getattr(operator, name))))


def _is_operator(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, Function) and value is not Function


def _in_order(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def called(ctx: Any, *arguments: Any) -> Any:
        return method(
            ctx, *(a.contiguous() if isinstance(a, torch.Tensor) else a for a in arguments)
        )

    return called
