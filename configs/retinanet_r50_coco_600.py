"""The paper's protocol for its ablations: RetinaNet-R50-FPN on COCO at 600 px, 90k iterations.

    python runners/sweep.py --grid gamma_alpha --config configs/retinanet_r50_coco_600.py \
        --gpus-per-trial 8

mmdet's own RetinaNet with the paper's numbers. Where the paper is silent, the assumption is said.
With other than 8 processes the learning rate and the schedule follow the batch.
"""

_base_ = [
    "mmdet::_base_/models/retinanet_r50_fpn.py",
    "_base_/coco_600.py",
    "_base_/runtime.py",
]

protocol = "paper"  # which of a grid's values fit this detector

model = dict(
    # Section 4: P7 is a ReLU and a convolution on P6.
    neck=dict(relu_before_extra_convs=True),
    bbox_head=dict(
        loss_cls=dict(
            _delete_=True, type="ablations.FocalLoss", gamma=2.0, alpha=0.25, use_sigmoid=True
        ),
        # The prior: the classifier starts at p = 0.01 for every window (section 4.1).
        init_cfg=dict(
            type="Normal",
            layer="Conv2d",
            std=0.01,
            override=dict(type="Normal", name="retina_cls", std=0.01, bias_prob=0.01),
        ),
        # Smooth L1 is the paper's; its beta is not given, 0.11 is the authors' later code's.
        loss_bbox=dict(_delete_=True, type="SmoothL1Loss", beta=0.11, loss_weight=1.0),
    ),
)

train_cfg = dict(type="StreamTrainLoop", max_iters=90_000, val_interval=90_000)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")

optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="SGD", lr=0.01, momentum=0.9, weight_decay=1e-4),
)
param_scheduler = [
    # A warm-up of 500 iterations is an assumption; the paper does not mention one.
    dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type="MultiStepLR", by_epoch=False, milestones=[60_000, 80_000], gamma=0.1),
]
auto_scale_lr = dict(enable=False, base_batch_size=16)
