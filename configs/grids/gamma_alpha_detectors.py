"""Does focal loss help elsewhere? Plain CE and FL with gamma 1 and 2 on RetinaNet, FCOS and ATSS.

The detectors are those of the grid `detectors`. alpha is 0.25 with each gamma, the best of both on
RetinaNet here and the paper's best of gamma = 2; no detector's alpha is tuned.
"""

title = "Focal loss on three detectors"
table = None
baseline = "RetinaNet CE"

_axes = dict(
    detector=["RetinaNet", "FCOS", "ATSS"],
    loss=["CE", "FL gamma=1", "FL gamma=2"],
)
_loss = {
    "$by": "loss",
    "CE": dict(type="ablations.CrossEntropyLoss", use_sigmoid=True),
    "FL gamma=1": dict(type="ablations.FocalLoss", gamma=1.0, alpha=0.25, use_sigmoid=True),
    "FL gamma=2": dict(type="ablations.FocalLoss", gamma=2.0, alpha=0.25, use_sigmoid=True),
}
_embedded = {
    "$by": "detector",
    "RetinaNet": {"$config": "configs/retinanet_r18_digits.py"},
    "FCOS": {"$config": "configs/fcos_r18_digits.py"},
    "ATSS": {"$config": "configs/atss_r18_digits.py"},
}
_paper = {
    "$by": "detector",
    "RetinaNet": {"$config": "configs/retinanet_r50_coco_600.py"},
    "FCOS": {"$config": "mmdet::fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py"},
    "ATSS": {"$config": "mmdet::atss/atss_r50_fpn_1x_coco.py"},
}
blocks = [
    dict(
        product=_axes,
        set={
            "model": {"$by": "protocol", "embedded": _embedded, "paper": _paper},
            "model.bbox_head.loss_cls": _loss,
        },
    )
]
