"""The protocol's fingerprint: settings that two trials must share to be comparable."""

from typing import Any

import numpy as np
from mmengine.config import Config

from ablations.store.config import inner_dataset, output_head, schedulers
from ablations.store.weights import described


def fingerprint(cfg: Config, processes: int) -> dict[str, Any]:
    """This config's values of the settings that the paper's protocol fixes.

    ``scaled_from_batch`` is present if the learning rate and the iterations were scaled to the
    batch: it is the batch that the config was written for (``sweep.schedule.scale_to_batch``).

    Args:
        cfg: a trial's resolved config.
        processes: of the trial; ``batch_size`` is the sum over them.
    """
    model, head = cfg.model, output_head(cfg)
    anchors = (model.get("rpn_head") or head).get("anchor_generator", {})
    ratios = list(anchors.get("ratios", []))
    scales = anchors.get("scales_per_octave", 0)
    optimizer = cfg.optim_wrapper.optimizer
    weights = (model.backbone.get("init_cfg") or {}).get("checkpoint")
    pipeline = list(inner_dataset(cfg.train_dataloader.dataset)["pipeline"])
    prior = head.get("init_cfg", {}).get("override", {}).get("bias_prob")
    normalised = "all processes' batches" if head.get("reduce_normaliser") else "a process's batch"
    batch = cfg.train_dataloader.batch_size * processes
    made_for = cfg.get("auto_scale_lr", {}).get("base_batch_size", batch)
    # Left out without scaling, so that such trials can be merged with older records.
    scaled = {"scaled_from_batch": made_for} if batch != made_for else {}
    return {
        "detector": model.type,
        "head": head.get("type", "").replace("CachedRetinaHead", "RetinaHead"),
        "backbone": model.backbone.type.replace("PrefixResNet", "ResNet"),
        "depth": model.backbone.get("depth"),
        "width": model.backbone.get("base_channels", 64),
        "subnet_convs": head.get("stacked_convs"),
        "subnet_channels": head.get("feat_channels"),
        "subnet_norm": (head.get("norm_cfg") or {}).get("type"),
        "strides": list(anchors.get("strides", [])),
        "octave_base_scale": anchors.get("octave_base_scale"),
        "anchor_scales": scales,
        "anchor_ratios": len(ratios),
        "anchors_per_location": scales * len(ratios),
        "scale": _shorter_side(pipeline),
        "batch_size": batch,
        "processes": processes,
        "iterations": cfg.train_cfg.max_iters,
        "optimizer": optimizer.type,
        "lr": optimizer.get("lr"),
        "lr_steps": _steps(schedulers(cfg)),
        "weight_decay": optimizer.get("weight_decay"),
        "momentum": optimizer.get("momentum"),
        "flip": next((t.get("prob") for t in pipeline if t["type"] == "RandomFlip"), 0.0),
        "pretrained": described(weights) if weights else None,
        "frozen_stages": model.backbone.get("frozen_stages", -1),
        "regression_loss": head.get("loss_bbox", {}).get("type"),
        "loss_normaliser": f"assigned anchors of {normalised}",
        "prior": 0.01 if "init_cfg" not in head else prior,
        "data": cfg.get("dataset_info", {}).get("name"),
        **scaled,
    }


def _shorter_side(pipeline: list[dict[str, Any]]) -> int | None:
    scale = next((t.get("scale") for t in pipeline if t["type"] == "Resize"), None)
    return int(np.min(scale)) if scale is not None else None


def _steps(schedules: list[dict[str, Any]]) -> list[int] | str:
    for schedule in schedules:
        if schedule["type"] == "MultiStepLR":
            return list(schedule["milestones"])
    return schedules[-1]["type"] if schedules else []
