"""Figure 2: RetinaNet beside the detectors that the paper compares it with, and two later ones.

Each is mmdet's own detector on the same pretrained backbone, data and schedule; its config says
what is as published and what is not. Under the paper's protocol they are the models that mmdet
ships for COCO, on the sweep's data and schedule. None is tuned, RetinaNet's setting apart.

Trials that run side by side slow each other down: for the latency, sweep it with `--workers 1`.
"""

title = "Detectors: accuracy and latency"
table = None
baseline = "RetinaNet FL"

_embedded = {
    "$by": "detector",
    "RetinaNet FL": {"$config": "configs/retinanet_r18_digits.py"},
    "RetinaNet CE": {"$config": "configs/retinanet_r18_digits.py"},
    "SSD": {"$config": "configs/ssd_r18_digits.py"},
    "YOLOv3": {"$config": "configs/yolov3_r18_digits.py"},
    "Faster R-CNN": {"$config": "configs/faster_rcnn_r18_digits.py"},
    "FCOS": {"$config": "configs/fcos_r18_digits.py"},
    "ATSS": {"$config": "configs/atss_r18_digits.py"},
}
_paper = {
    "$by": "detector",
    "RetinaNet FL": {"$config": "configs/retinanet_r50_coco_600.py"},
    "RetinaNet CE": {"$config": "configs/retinanet_r50_coco_600.py"},
    "SSD": {"$config": "mmdet::ssd/ssd300_coco.py"},
    "YOLOv3": {"$config": "mmdet::yolo/yolov3_d53_8xb8-ms-608-273e_coco.py"},
    "Faster R-CNN": {"$config": "mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py"},
    "FCOS": {"$config": "mmdet::fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py"},
    "ATSS": {"$config": "mmdet::atss/atss_r50_fpn_1x_coco.py"},
}
_loss = {
    "$by": "detector",
    "RetinaNet FL": dict(type="ablations.FocalLoss", gamma=2.0, alpha=0.25, use_sigmoid=True),
    "RetinaNet CE": dict(type="ablations.CrossEntropyLoss", use_sigmoid=True),
}
_ours = [dict(detector="RetinaNet FL"), dict(detector="RetinaNet CE")]
_others = [dict(detector=name) for name in ("SSD", "YOLOv3", "Faster R-CNN", "FCOS", "ATSS")]

blocks = {
    "$by": "protocol",
    "embedded": [
        dict(points=_ours, set={"model": _embedded, "model.bbox_head.loss_cls": _loss}),
        dict(points=_others, set={"model": _embedded, "expected_cost": _embedded}),
    ],
    "paper": [
        dict(points=_ours, set={"model": _paper, "model.bbox_head.loss_cls": _loss}),
        dict(points=_others, set={"model": _paper}),
    ],
}
