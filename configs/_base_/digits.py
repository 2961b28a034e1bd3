"""The embedded data set: handwritten digits on photographs, 96 px, ten classes.

Built from installed packages on first use. No flips: a mirrored 2 is not a 2.
"""

data_root = "data/digits/"
# Names the data in a trial's id, wherever the files lie; `builder` makes them if they are missing.
dataset_info = dict(name="digits", version=2, builder="ablations.data.digits:build")

metainfo = dict(classes=("0", "1", "2", "3", "4", "5", "6", "7", "8", "9"))

train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="PackDetInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=(96, 96), keep_ratio=True),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(
        type="PackDetInputs",
        meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor"),
    ),
]

train_dataloader = dict(
    batch_size=12,
    num_workers=0,
    persistent_workers=False,
    sampler=dict(type="StreamSampler"),
    dataset=dict(
        type="StreamDataset",
        dataset=dict(
            type="CocoDataset",
            data_root=data_root,
            ann_file="annotations/train.json",
            data_prefix=dict(img="train/"),
            metainfo=metainfo,
            filter_cfg=dict(filter_empty_gt=True, min_size=1),
            pipeline=train_pipeline,
        ),
    ),
)
val_dataloader = dict(
    batch_size=50,
    num_workers=0,
    persistent_workers=False,
    drop_last=False,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="CocoDataset",
        data_root=data_root,
        ann_file="annotations/val.json",
        data_prefix=dict(img="val/"),
        metainfo=metainfo,
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(type="BoxAP", ann_file=data_root + "annotations/val.json")
test_evaluator = val_evaluator
