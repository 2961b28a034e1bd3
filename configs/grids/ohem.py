"""Table 1d: online hard example mining against focal loss.

The paper's is with ResNet-101: ``--config configs/retinanet_r101_coco_600.py``. Its minibatches of
128 to 512 anchors are picked from some 100,000 an image; the embedded detector has 1,620, so its
minibatches are of 16 to 64.
"""

title = "Online hard example mining against focal loss"
table = "table_1d"
baseline = "method=FL"

blocks = [
    dict(
        product=dict(
            method=["OHEM"],
            batch_size={"$by": "protocol", "embedded": [16, 32, 64], "paper": [128, 256, 512]},
            nms_threshold=[0.7, 0.5],
        ),
        set={
            "model.bbox_head.type": "ablations.OHEMRetinaHead",
            "model.bbox_head.loss_cls": dict(type="ablations.CrossEntropyLoss", use_sigmoid=True),
            "+model.bbox_head.batch_anchors": "$batch_size",
            "+model.bbox_head.nms_threshold": "$nms_threshold",
        },
    ),
    dict(
        product=dict(
            method=["OHEM_1:3"],
            batch_size={"$by": "protocol", "embedded": [16, 32, 64], "paper": [128, 256, 512]},
            nms_threshold=[0.5],
        ),
        set={
            "model.bbox_head.type": "ablations.OHEMRetinaHead",
            "model.bbox_head.loss_cls": dict(type="ablations.CrossEntropyLoss", use_sigmoid=True),
            "+model.bbox_head.batch_anchors": "$batch_size",
            "+model.bbox_head.nms_threshold": "$nms_threshold",
            "+model.bbox_head.negatives_per_positive": 3,
        },
    ),
    dict(
        points=[dict(method="FL")],
        set={
            "model.bbox_head.loss_cls": dict(
                type="ablations.FocalLoss", gamma=2.0, alpha=0.25, use_sigmoid=True
            )
        },
    ),
]
