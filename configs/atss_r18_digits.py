"""ATSS on the embedded digits: one anchor a location, positives chosen by their statistics."""

_base_ = ["retinanet_r18_digits.py"]

model = dict(
    type="ATSS",
    bbox_head=dict(
        _delete_=True,
        type="ATSSHead",
        num_classes=10,
        in_channels=32,
        feat_channels=32,
        stacked_convs=1,
        anchor_generator=dict(
            type="AnchorGenerator",
            ratios=[1.0],
            octave_base_scale=4,
            scales_per_octave=1,
            strides=[8, 16],
        ),
        bbox_coder=dict(
            type="DeltaXYWHBBoxCoder",
            target_means=[0.0, 0.0, 0.0, 0.0],
            target_stds=[0.1, 0.1, 0.2, 0.2],
        ),
        norm_cfg=dict(type="GN", num_groups=8, requires_grad=True),
        init_cfg=dict(
            type="Normal",
            layer="Conv2d",
            std=0.01,
            override=dict(type="Normal", name="atss_cls", std=0.01, bias_prob=0.01),
        ),
        loss_cls=dict(type="ablations.FocalLoss", gamma=2.0, alpha=0.25, use_sigmoid=True),
        loss_bbox=dict(type="GIoULoss", loss_weight=2.0),
        loss_centerness=dict(type="CrossEntropyLoss", use_sigmoid=True, loss_weight=1.0),
    ),
    train_cfg=dict(assigner=dict(_delete_=True, type="ATSSAssigner", topk=9)),
)

expected_cost = dict(
    trial_s=110,
    source="the trials of the published sweep, on a core of an Intel Xeon, 2.5 GHz, 2026-11-28",
)
