"""A trial's config as it would be written without this project: with mmdet's parts alone.

The detector, data, order of images, schedule and seed stay the same. The order comes from
``stock_order``, a module written beside the config, so the config imports nothing of this project.
"""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ablations.store.config import config_text, inner_dataset

ORDER = '''"""The order of images; what torchvision's import needs beside a CPU build of torch."""

import numpy as np
import torch
from mmengine.registry import DATA_SAMPLERS


@DATA_SAMPLERS.register_module()
class SeededSampler(torch.utils.data.Sampler):
    def __init__(self, dataset, seed=0):
        self.size, self.seed = len(dataset), seed

    def __iter__(self):
        epoch = 0
        while True:
            order = np.random.default_rng([self.seed, epoch]).permutation(self.size)
            yield from order.tolist()
            epoch += 1

    def __len__(self):
        return self.size


try:
    import torchvision
except RuntimeError:
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
'''


def stock(config: dict[str, Any]) -> dict[str, Any]:
    """The stock form of a resolved trial config.

    Args:
        config: of a RetinaNet with one of our focal or cross entropy losses.
    """
    config = copy.deepcopy(config)
    for name in (
        "custom_hooks",
        "visualizer",
        "expected_cost",
        "protocol",
        "setting",
        "dataset_info",
    ):
        config.pop(name, None)
    model = config["model"]
    model["data_preprocessor"]["type"] = "DetDataPreprocessor"
    model["backbone"]["type"] = "ResNet"
    model["bbox_head"]["type"] = "RetinaHead"
    model["bbox_head"]["loss_cls"] = _loss(model["bbox_head"]["loss_cls"])
    config["optim_wrapper"]["optimizer"].pop("fused", None)
    for split in ("train", "val", "test"):
        loader = config[f"{split}_dataloader"]
        loader["dataset"] = inner_dataset(loader["dataset"])
        loader |= {"num_workers": 2, "persistent_workers": True}  # mmdet's own
        evaluator = config.get(f"{split}_evaluator")
        if evaluator:
            kept = {"type": "CocoMetric", "metric": "bbox", "ann_file": evaluator["ann_file"]}
            config[f"{split}_evaluator"] = kept
    seed = config["randomness"]["seed"]
    config["train_dataloader"]["sampler"] = dict(type="SeededSampler", seed=seed)
    config["train_cfg"]["type"] = "IterBasedTrainLoop"
    iterations = config["train_cfg"]["max_iters"]
    config["default_hooks"] |= {
        "logger": dict(type="LoggerHook", interval=50),
        "checkpoint": dict(type="CheckpointHook", by_epoch=False, interval=iterations),
        "sampler_seed": dict(type="DistSamplerSeedHook"),
    }
    config["custom_imports"] = dict(imports=["stock_order"], allow_failed_imports=False)
    config["vis_backends"] = [dict(type="LocalVisBackend")]
    config["visualizer"] = dict(
        type="DetLocalVisualizer", vis_backends=config["vis_backends"], name="visualizer"
    )
    return config


def _loss(loss: dict[str, Any]) -> dict[str, Any]:
    kind = loss["type"].removeprefix("ablations.")
    if kind == "CrossEntropyLoss":
        return dict(type="CrossEntropyLoss", use_sigmoid=True)
    if kind != "FocalLoss":
        raise ValueError(f"mmdet has no {kind}")
    return loss | {"type": "FocalLoss"}


def write_stock(folder: Path, config: dict[str, Any], extra_imports: Sequence[str] = ()) -> Path:
    """Write the stock config and its sampler into ``folder``; returns the config's path."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "stock_order.py").write_text(ORDER)
    converted = stock(config)
    converted["custom_imports"]["imports"] += extra_imports
    path = folder / "config.py"
    path.write_text(config_text(converted))
    return path
