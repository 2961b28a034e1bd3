"""What mmcv's operators take for granted: tensors whose elements lie in the order of their shape.

Their kernels read memory in that order. Given features in channels-last order, as the convolutions
of a channels-last detector make them, ``DeformConv2d`` raises an error, and ``RoIAlign`` quietly
reads others' values: a two-stage detector then trains on noise.
"""

import functools
import sys
from collections.abc import Callable, Iterator
from typing import Any

import mmcv.ops  # noqa: F401 - loads the modules that are looked through
import torch
from torch.autograd import Function


def mend_operators() -> None:
    """Hand every operator of mmcv its tensors in the order of their shape, copied if need be."""
    for function in _operators():
        for name in ("forward", "backward"):
            method = getattr(function, name)
            if not hasattr(method, "takes_any_order"):
                setattr(function, name, staticmethod(_in_order(method)))


def _operators() -> Iterator[Any]:
    for name, module in list(sys.modules.items()):
        if name.startswith("mmcv.ops."):
            for value in vars(module).values():
                if isinstance(value, type) and issubclass(value, Function):
                    yield value


def _in_order(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def called(ctx: Any, *arguments: Any) -> Any:
        return method(
            ctx, *(a.contiguous() if isinstance(a, torch.Tensor) else a for a in arguments)
        )

    called.takes_any_order = True  # type: ignore[attr-defined]
    return called
