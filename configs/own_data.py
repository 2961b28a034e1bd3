"""Data of your own in COCO format: copy this file and change what is marked.

    python runners/sweep.py --grid alpha_ce --config configs/own_data.py

The detector is the embedded one with larger anchors added; any one-stage detector of mmdet with a
``loss_cls`` will do (`fcos_r18_digits.py` and `atss_r18_digits.py` beside this file are two), and
so will `retinanet_r50_coco_600.py` for a GPU. Grids that set the head's loss work on all of them;
one that sets what a detector does not have says so and starts nothing.
"""

_base_ = ["retinanet_r18_four_levels.py"]  # <- the detector and its schedule

data_root = "data/own/"  # <- holds annotations/{train,val}.json, train/ and val/
classes = ("cat", "dog")  # <- names of the annotations' categories
dataset_info = dict(_delete_=True, name="own", version=1)  # <- tells your data sets apart
scale = (256, 256)  # <- images are resized to fit into it
setting = ""  # <- how you chose all this, for the report

model = dict(bbox_head=dict(num_classes=len(classes)))

_train = dict(
    data_root=data_root,
    metainfo=dict(classes=classes),
    pipeline=[
        dict(type="LoadImageFromFile"),
        dict(type="LoadAnnotations", with_bbox=True),
        dict(type="Resize", scale=scale, keep_ratio=True),
        dict(type="RandomFlip", prob=0.5),
        dict(type="PackDetInputs"),
    ],
)
_val = dict(
    data_root=data_root,
    metainfo=dict(classes=classes),
    pipeline=[
        dict(type="LoadImageFromFile"),
        dict(type="Resize", scale=scale, keep_ratio=True),
        dict(type="LoadAnnotations", with_bbox=True),
        dict(
            type="PackDetInputs",
            meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor"),
        ),
    ],
)
train_dataloader = dict(dataset=dict(dataset=_train))
val_dataloader = dict(dataset=_val)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + "annotations/val.json")
test_evaluator = val_evaluator
