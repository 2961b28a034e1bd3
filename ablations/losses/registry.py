"""The registry a config reaches as ``type='ablations.FocalLoss'``.

A child of mmdet's own, with a scope: nothing in it clashes with a name mmdet has registered.
"""

from mmdet.registry import MODELS
from mmengine import Registry

LOSSES = Registry(
    "loss",
    parent=MODELS,
    scope="ablations",
    locations=["ablations.losses.modules", "ablations.losses.ohem"],
)
