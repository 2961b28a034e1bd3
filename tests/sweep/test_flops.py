"""The count of operations: as PyTorch executes them, and as published times imply."""

import copy
from typing import Any

import pytest

from ablations.sweep import flops
from ablations.sweep.estimate import counted_seconds, iteration_seconds
from ablations.sweep.plan import load_config

PAPER = "configs/retinanet_r50_coco_600.py"


@pytest.mark.parametrize(
    "path", [PAPER, "configs/retinanet_r18_digits.py", "configs/retinanet_r18_four_levels.py"]
)
def test_the_count_is_what_pytorch_executes(path: str) -> None:
    import torch
    from mmdet.registry import MODELS
    from mmengine.registry import DefaultScope
    from torch.utils.flop_counter import FlopCounterMode

    import ablations.training  # noqa: F401

    model = load_config(path)["model"]
    counted = flops.forward(model, (96, 160))
    built = copy.deepcopy(model)
    built["backbone"]["init_cfg"] = None
    with DefaultScope.overwrite_default_scope("mmdet"):
        detector = MODELS.build(built).eval()
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        detector(torch.zeros(1, 3, 96, 160), mode="tensor")
    assert counted == pytest.approx(counter.get_total_flops(), rel=1e-6)


@pytest.mark.parametrize(("depth", "published"), [(50, 0.200), (101, 0.280)])
def test_published_times_are_met(depth: int, published: float) -> None:
    """detectron2's model zoo: seconds an iteration, 2 images a V100, shorter side 640 to 800."""
    config = load_config(PAPER)
    config["model"]["backbone"]["depth"] = depth
    pipeline = config["train_dataloader"]["dataset"]["dataset"]["pipeline"]
    next(step for step in pipeline if step["type"] == "Resize")["scale"] = (1333, 720)
    assert iteration_seconds(config) == pytest.approx(published, rel=0.1)


def test_a_frozen_convolution_is_not_differentiated() -> None:
    model: dict[str, Any] = load_config(PAPER)["model"]
    frozen = copy.deepcopy(model)
    frozen["backbone"]["frozen_stages"] = 4
    size = (96, 160)
    assert flops.training(model, size) < 3 * flops.forward(model, size)
    assert flops.training(frozen, size) < flops.training(model, size)
    model["backbone"]["frozen_stages"] = -1
    assert flops.training(model, size) == 3 * flops.forward(model, size)


def test_a_trial_costs_by_its_scale_and_iterations() -> None:
    config = load_config(PAPER)
    assert flops.image_size(config) == (608, 800)
    half = copy.deepcopy(config)
    half["train_cfg"]["max_iters"] //= 2
    assert counted_seconds(half) == pytest.approx(counted_seconds(config) / 2)


def test_another_detector_is_not_counted() -> None:
    with pytest.raises(ValueError, match="FCOSHead"):
        flops.forward(load_config("configs/fcos_r18_digits.py")["model"], (96, 96))
