"""The paper's protocol with ResNet-101, for Table 1d (grid `ohem`).

    python runners/sweep.py --grid ohem --config configs/retinanet_r101_coco_600.py \
        --gpus-per-trial 8
"""

_base_ = ["retinanet_r50_coco_600.py"]

model = dict(
    backbone=dict(depth=101, init_cfg=dict(type="Pretrained", checkpoint="torchvision://resnet101"))
)
