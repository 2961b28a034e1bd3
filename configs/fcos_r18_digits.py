"""FCOS on the embedded digits: a one-stage detector without anchors, ready for the loss grids."""

_base_ = ["retinanet_r18_digits.py"]

model = dict(
    type="FCOS",
    bbox_head=dict(
        _delete_=True,
        type="FCOSHead",
        num_classes=10,
        in_channels=32,
        feat_channels=32,
        stacked_convs=1,
        strides=[8, 16],
        regress_ranges=((-1, 24), (24, 1e8)),  # px, a level each
        norm_cfg=dict(type="GN", num_groups=8, requires_grad=True),
        init_cfg=dict(
            type="Normal",
            layer="Conv2d",
            std=0.01,
            override=dict(type="Normal", name="conv_cls", std=0.01, bias_prob=0.01),
        ),
        loss_cls=dict(type="ablations.FocalLoss", gamma=2.0, alpha=0.25, use_sigmoid=True),
        loss_bbox=dict(type="IoULoss", loss_weight=1.0),
        loss_centerness=dict(type="CrossEntropyLoss", use_sigmoid=True, loss_weight=1.0),
    ),
)

expected_cost = dict(
    trial_s=80,
    source="the trials of the published sweep, on a core of an Intel Xeon, 2.5 GHz, 2026-11-28",
)
