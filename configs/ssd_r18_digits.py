"""SSD on the embedded digits: the other answer to the imbalance, three hard negatives a positive.

mmdet's SSDHead, its neck and its loss (softmax cross entropy, hard negative mining 3:1) as in
SSD300: every level predicts from one convolution, without a pyramid and without shared subnets. Not
as published: the backbone is the sweep's pretrained ResNet-18 in VGG's place, so the levels are at
strides 8, 16 and 32; the anchors have the sizes of the digits and the ratio 2 only; the added
convolutions have group normalisation, as everything in the default; no augmentation.
"""

_base_ = ["retinanet_r18_digits.py"]

model = dict(
    type="SingleStageDetector",
    neck=dict(
        _delete_=True,
        type="SSDNeck",
        in_channels=(32,),
        out_channels=(32, 64, 64),
        level_strides=(2, 2),
        level_paddings=(1, 1),
        l2_norm_scale=20,
        norm_cfg=dict(type="GN", num_groups=8, requires_grad=True),
    ),
    bbox_head=dict(
        _delete_=True,
        type="SSDHead",
        num_classes=10,
        in_channels=(32, 64, 64),
        anchor_generator=dict(
            type="SSDAnchorGenerator",
            scale_major=False,
            strides=[8, 16, 32],
            ratios=[[2], [2], [2]],
            min_sizes=[20, 30, 45],  # px; each level also has a square of sqrt(min * max)
            max_sizes=[30, 45, 60],
        ),
        bbox_coder=dict(
            type="DeltaXYWHBBoxCoder",
            target_means=[0.0, 0.0, 0.0, 0.0],
            target_stds=[0.1, 0.1, 0.2, 0.2],
        ),
    ),
    train_cfg=dict(
        _delete_=True,
        assigner=dict(
            type="MaxIoUAssigner",
            pos_iou_thr=0.5,
            neg_iou_thr=0.5,
            min_pos_iou=0.0,
            ignore_iof_thr=-1,
            gt_max_assign_all=False,
        ),
        sampler=dict(type="PseudoSampler"),
        smoothl1_beta=1.0,
        allowed_border=-1,
        pos_weight=-1,
        neg_pos_ratio=3,
        debug=False,
    ),
    test_cfg=dict(
        _delete_=True,
        nms_pre=1000,
        nms=dict(type="nms", iou_threshold=0.45),
        min_bbox_size=0,
        score_thr=0.02,
        max_per_img=100,
    ),
)

expected_cost = dict(
    trial_s=135,
    source="the trials of the published sweep, on a core of an Intel Xeon, 2.5 GHz, 2026-11-28",
)
