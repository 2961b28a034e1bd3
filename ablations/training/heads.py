"""The heads of a detector and their classification losses, wherever they are."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mmdet.models.dense_heads import SSDHead
from torch import nn

PATHS = ("bbox_head", "rpn_head", "roi_head.bbox_head")
"""Where mmdet's detectors have their heads; the last may be a list of heads, one a stage."""

LOSSES = ("loss_cls", "loss_conf", "loss_obj")
"""What mmdet's heads call a classification loss; YOLOv3 and YOLOX have one of objectness too."""


@dataclass(frozen=True)
class Head:
    """A head and its path in the model, such as ``roi_head.bbox_head``."""

    path: str
    module: Any

    @property
    def in_stage_two(self) -> bool:
        """Whether it classifies proposals: by a softmax, with an output for background."""
        return self.path.startswith("roi_head")

    @property
    def computes_softmax(self) -> bool:
        """Whether it has no loss of its own to set: SSD's cross entropy with its mining."""
        return isinstance(self.module, SSDHead)

    @property
    def losses(self) -> dict[str, nn.Module]:
        """Its classification losses by the name of the attribute; empty if it computes its own."""
        found = {name: getattr(self.module, name, None) for name in LOSSES}
        return {name: loss for name, loss in found.items() if isinstance(loss, nn.Module)}


def heads(model: nn.Module) -> Iterator[Head]:
    """The heads of a detector, in the order of ``PATHS``."""
    for path in PATHS:
        found: Any = model
        for name in path.split("."):
            found = getattr(found, name, None)
        if isinstance(found, nn.ModuleList):
            yield from (Head(f"{path}.{number}", one) for number, one in enumerate(found))
        elif isinstance(found, nn.Module):
            yield Head(path, found)


def last_head(model: nn.Module) -> Head | None:
    """The head whose classes the detector puts out; ``None`` if it has none that is known."""
    return next(reversed(list(heads(model))), None)
