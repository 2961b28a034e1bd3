"""RetinaNet on a narrow ResNet-18, for ten classes at 96 px on a CPU core.

mmdet's detector with a quarter of ResNet-18's width and its first two stages, two pyramid levels
(strides 8 and 16: the digits are 60 px at most; the second is made from the first), nine anchors a
location and one convolution in each subnet. As in mmdet's RetinaNet the backbone's stem and first
stage are frozen, and so are the statistics of its batch norms. Group normalisation in the pyramid
and the subnets, which the paper's RetinaNet has not, lets a short schedule converge with every
loss: without it, trials from random weights with gamma = 2 lost ten AP to a bump of the loss in the
warm-up.
"""

norm = dict(type="GN", num_groups=8, requires_grad=True)

model = dict(
    type="RetinaNet",
    data_preprocessor=dict(
        type="StackedPreprocessor",
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_size_divisor=32,
    ),
    backbone=dict(
        type="PrefixResNet",  # mmdet's ResNet; a sweep's trials share what its frozen part computes
        depth=18,
        stem_channels=8,
        base_channels=16,
        num_stages=2,
        strides=(1, 2),
        dilations=(1, 1),
        out_indices=(1,),
        frozen_stages=1,
        norm_cfg=dict(type="BN", requires_grad=True),
        norm_eval=True,
        style="pytorch",
    ),
    neck=dict(
        type="FPN",
        in_channels=[32],
        out_channels=32,
        num_outs=2,
        add_extra_convs="on_output",
        relu_before_extra_convs=True,
        norm_cfg=norm,
    ),
    bbox_head=dict(
        type="CachedRetinaHead",
        num_classes=10,
        in_channels=32,
        feat_channels=32,
        stacked_convs=1,
        norm_cfg=norm,
        anchor_generator=dict(
            type="AnchorGenerator",
            octave_base_scale=3,
            scales_per_octave=3,
            ratios=[0.5, 1.0, 2.0],
            strides=[8, 16],
        ),
        bbox_coder=dict(
            type="DeltaXYWHBBoxCoder",
            target_means=[0.0, 0.0, 0.0, 0.0],
            target_stds=[1.0, 1.0, 1.0, 1.0],
        ),
        # The prior: the classifier starts at p = 0.01 for every window (section 4.1).
        init_cfg=dict(
            type="Normal",
            layer="Conv2d",
            std=0.01,
            override=dict(type="Normal", name="retina_cls", std=0.01, bias_prob=0.01),
        ),
        # use_sigmoid: mmdet's heads size their output by it.
        loss_cls=dict(type="ablations.FocalLoss", gamma=2.0, alpha=0.25, use_sigmoid=True),
        loss_bbox=dict(type="SmoothL1Loss", beta=0.11, loss_weight=1.0),
    ),
    train_cfg=dict(
        assigner=dict(
            type="MaxIoUAssigner",
            pos_iou_thr=0.5,
            neg_iou_thr=0.4,
            min_pos_iou=0,
            ignore_iof_thr=-1,
        ),
        sampler=dict(type="PseudoSampler"),
        allowed_border=-1,
        pos_weight=-1,
        debug=False,
    ),
    test_cfg=dict(
        nms_pre=1000,
        min_bbox_size=0,
        score_thr=0.05,
        nms=dict(type="nms", iou_threshold=0.5),
        max_per_img=100,
    ),
)
