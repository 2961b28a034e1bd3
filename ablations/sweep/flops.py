"""The floating-point operations of a RetinaNet, counted from its config: no torch is needed.

A multiplication and an addition count as two operations; only convolutions count, which are all but
a percent of them. A test compares the count with the operations that PyTorch executes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

BLOCKS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}
ASPECT = 4 / 3  # COCO's usual image, 640 x 480
STRIDE = 32  # images are padded to a multiple of it

Size = tuple[int, int]


@dataclass(frozen=True)
class Conv:
    """One convolution: output size, kernel, channels, and whether it is trained."""

    size: Size
    kernel: int
    inputs: int
    outputs: int
    trained: bool = True

    @property
    def operations(self) -> float:
        """Of one forward pass for one image."""
        height, width = self.size
        return 2.0 * height * width * self.kernel**2 * self.inputs * self.outputs


def image_size(config: dict[str, Any]) -> Size:
    """Height and width of a padded 4:3 image after the config's ``Resize``.

    Raises:
        ValueError: the training pipeline has no ``Resize`` with one scale.
    """
    dataset = config["train_dataloader"]["dataset"]
    while "pipeline" not in dataset and "dataset" in dataset:
        dataset = dataset["dataset"]
    scales = [step.get("scale") for step in dataset["pipeline"] if step["type"] == "Resize"]
    if len(scales) != 1 or not scales[0]:
        raise ValueError("the pipeline has no Resize with a scale")
    short, long = min(scales[0]), max(scales[0])
    factor = min(1.0, long / (short * ASPECT))
    height, width = short * factor, short * factor * ASPECT
    return _padded(height), _padded(width)


def _padded(length: float) -> int:
    return -(-round(length) // STRIDE) * STRIDE


def forward(model: dict[str, Any], size: Size) -> float:
    """Operations of one forward pass for one image.

    Raises:
        ValueError: the model is not a RetinaNet with a ResNet and an FPN.
    """
    return sum(conv.operations for conv in convolutions(model, size))


def training(model: dict[str, Any], size: Size) -> float:
    """Operations of one training step for one image: a trained convolution's backward pass costs
    two forward passes (the gradients of its weights and of its input), a frozen one's nothing.

    Raises:
        ValueError: the model is not a RetinaNet with a ResNet and an FPN.
    """
    return sum((3 if c.trained else 1) * c.operations for c in convolutions(model, size))


def convolutions(model: dict[str, Any], size: Size) -> Iterator[Conv]:
    """Every convolution of the detector, from the image on."""
    backbone, neck, head = model["backbone"], model.get("neck", {}), model.get("bbox_head", {})
    parts = (backbone, neck, head)  # a neck may be a list of necks
    kinds = [part.get("type", "") if isinstance(part, dict) else "a list" for part in parts]
    if not all(kind.endswith(end) for kind, end in zip(kinds, ENDS, strict=True)):
        raise ValueError(f"operations are counted of a RetinaNet, not of {', '.join(kinds)}")
    stages: list[tuple[int, Size]] = []  # channels and size of each stage's output
    yield from _resnet(backbone, size, stages)
    levels: list[Size] = []
    yield from _fpn(neck, stages, levels)
    yield from _head(head, levels)


ENDS = ("ResNet", "FPN", "RetinaHead")


def _halved(size: Size) -> Size:
    return (size[0] + 1) // 2, (size[1] + 1) // 2


def _resnet(cfg: dict[str, Any], size: Size, stages: list[tuple[int, Size]]) -> Iterator[Conv]:
    frozen, width = cfg.get("frozen_stages", -1), cfg.get("base_channels", 64)
    depth, strides = cfg["depth"], cfg.get("strides", (1, 2, 2, 2))
    expansion = 4 if depth >= 50 else 1
    size = _halved(size)
    yield Conv(size, 7, 3, cfg.get("stem_channels") or width, frozen < 0)
    size, inputs = _halved(size), cfg.get("stem_channels") or width
    for stage in range(cfg.get("num_stages", 4)):
        inner, trained = width * 2**stage, stage + 1 > frozen
        for block in range(BLOCKS[depth][stage]):
            before = size
            if block == 0 and strides[stage] == 2:
                size = _halved(size)
            outputs = inner * expansion
            if expansion == 4:
                yield Conv(before, 1, inputs, inner, trained)
                yield Conv(size, 3, inner, inner, trained)
                yield Conv(size, 1, inner, outputs, trained)
            else:
                yield Conv(size, 3, inputs, inner, trained)
                yield Conv(size, 3, inner, inner, trained)
            if block == 0 and (inputs != outputs or size != before):
                yield Conv(size, 1, inputs, outputs, trained)
            inputs = outputs
        if stage in cfg.get("out_indices", (0, 1, 2, 3)):
            stages.append((inputs, size))


def _fpn(cfg: dict[str, Any], stages: list[tuple[int, Size]], levels: list[Size]) -> Iterator[Conv]:
    channels = cfg["out_channels"]
    used = stages[cfg.get("start_level", 0) :]
    for inputs, size in used:
        yield Conv(size, 1, inputs, channels)
        yield Conv(size, 3, channels, channels)
        levels.append(size)
    on_input = cfg.get("add_extra_convs") in (True, "on_input")
    inputs = used[-1][0] if on_input else channels
    for _ in range(cfg.get("num_outs", len(used)) - len(used)):
        levels.append(_halved(levels[-1]))
        if cfg.get("add_extra_convs"):
            yield Conv(levels[-1], 3, inputs, channels)
        inputs = channels


def _head(cfg: dict[str, Any], levels: list[Size]) -> Iterator[Conv]:
    anchors = cfg["anchor_generator"]
    windows = len(anchors["ratios"]) * anchors["scales_per_octave"]
    width = cfg.get("feat_channels", 256)
    for size in levels:
        inputs = cfg["in_channels"]
        for _ in range(cfg.get("stacked_convs", 4)):
            yield Conv(size, 3, inputs, width)
            yield Conv(size, 3, inputs, width)
            inputs = width
        yield Conv(size, 3, width, windows * cfg["num_classes"])
        yield Conv(size, 3, width, windows * 4)
