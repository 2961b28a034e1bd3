"""COCO at the ablations' scale: the shorter side 600 px, horizontal flips and nothing else.

Expects the usual data/coco/{annotations,train2017,val2017}. trainval35k and minival of the paper
are train2017 and val2017.
"""

data_root = "data/coco/"
dataset_info = dict(name="coco2017", version=1)

# The paper gives the shorter side. That the longer one is capped at 1000 px is an assumption, the
# usual companion of 600.
scale = (1000, 600)

train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="Resize", scale=scale, keep_ratio=True),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackDetInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=scale, keep_ratio=True),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(
        type="PackDetInputs",
        meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor"),
    ),
]

train_dataloader = dict(
    batch_size=2,  # a process; 16 over the paper's 8 GPUs
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="StreamSampler"),
    dataset=dict(
        type="StreamDataset",
        dataset=dict(
            type="CocoDataset",
            data_root=data_root,
            ann_file="annotations/instances_train2017.json",
            data_prefix=dict(img="train2017/"),
            filter_cfg=dict(filter_empty_gt=True, min_size=32),
            pipeline=train_pipeline,
        ),
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="CocoDataset",
        data_root=data_root,
        ann_file="annotations/instances_val2017.json",
        data_prefix=dict(img="val2017/"),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(type="BoxAP", ann_file=data_root + "annotations/instances_val2017.json")
test_evaluator = val_evaluator
