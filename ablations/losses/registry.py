"""The registry of the losses: a config names one as ``type='ablations.FocalLoss'``.

It is a child of mmdet's registry with a scope of its own, so names that mmdet has too do not clash.
"""

from mmdet.registry import MODELS
from mmengine import Registry

LOSSES = Registry(
    "loss",
    parent=MODELS,
    scope="ablations",
    locations=["ablations.losses.modules", "ablations.losses.softmax", "ablations.losses.ohem"],
)
