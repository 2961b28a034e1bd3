"""YOLOv3 on the embedded digits: one objectness an anchor, and class scores on positives only.

mmdet's YOLOV3Head, YOLOV3Neck, assigner and losses as published: an anchor is positive where it
fits best in the cell of an object's centre, others that overlap are ignored, and losses are sums
over the batch. Not as published: the backbone is the sweep's pretrained ResNet-18 in Darknet's
place, and ends at stride 8, so one convolution makes stride 16; two scales and not three; the
anchors are medians of six clusters of the training digits' boxes (k-means under IoU, as the paper's
are of COCO's); group normalisation, as everything in the default; no augmentation.
"""

_base_ = ["retinanet_r18_digits.py"]

norm = dict(type="GN", num_groups=8, requires_grad=True)

model = dict(
    type="YOLOV3",
    neck=[
        dict(type="ChannelMapper", in_channels=[32], out_channels=32, num_outs=2, norm_cfg=norm),
        dict(
            type="YOLOV3Neck",
            num_scales=2,
            in_channels=[32, 32],
            out_channels=[32, 32],
            norm_cfg=norm,
        ),
    ],
    bbox_head=dict(
        _delete_=True,
        type="YOLOV3Head",
        num_classes=10,
        in_channels=[32, 32],
        out_channels=[64, 64],
        anchor_generator=dict(
            type="YOLOAnchorGenerator",
            base_sizes=[[(29, 41), (34, 47), (40, 55)], [(18, 26), (22, 31), (26, 36)]],
            strides=[16, 8],
        ),
        bbox_coder=dict(type="YOLOBBoxCoder"),
        featmap_strides=[16, 8],
        norm_cfg=norm,
        loss_cls=dict(type="CrossEntropyLoss", use_sigmoid=True, loss_weight=1.0, reduction="sum"),
        loss_conf=dict(type="CrossEntropyLoss", use_sigmoid=True, loss_weight=1.0, reduction="sum"),
        loss_xy=dict(type="CrossEntropyLoss", use_sigmoid=True, loss_weight=2.0, reduction="sum"),
        loss_wh=dict(type="MSELoss", loss_weight=2.0, reduction="sum"),
    ),
    train_cfg=dict(
        _delete_=True,
        assigner=dict(type="GridAssigner", pos_iou_thr=0.5, neg_iou_thr=0.5, min_pos_iou=0),
    ),
    test_cfg=dict(
        _delete_=True,
        nms_pre=1000,
        min_bbox_size=0,
        score_thr=0.05,
        conf_thr=0.005,
        nms=dict(type="nms", iou_threshold=0.45),
        max_per_img=100,
    ),
)

expected_cost = dict(
    trial_s=150,
    source="the trials of the published sweep, on a core of an Intel Xeon, 2.5 GHz, 2026-11-28",
)
