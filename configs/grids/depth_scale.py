"""Table 1e and Figure 2: backbone depth and image scale, accuracy against speed.

The paper's AP is on test-dev and its time on an M40, so its rows are shown and no difference is
taken. Its longer side is taken to be 5/3 of the shorter one, as 1000 is of 600. The embedded data
is 96 px and its training pipeline has no resizing, so the pipeline is replaced; on data of your own
write your pipeline here.

Trials that run side by side slow each other down: for the speed, sweep it with `--workers 1`.
"""

title = "Backbone depth and image scale: accuracy against speed"
table = "table_1e"
baseline = {"$by": "protocol", "embedded": "depth=18 scale=96", "paper": "depth=50 scale=600"}

_sides = {
    "$by": "scale",
    400: (667, 400),
    500: (833, 500),
    600: (1000, 600),
    700: (1167, 700),
    800: (1333, 800),
}
blocks = {
    "$by": "protocol",
    "embedded": [
        dict(
            product=dict(depth=[18, 34], scale=[64, 96, 128]),
            set={
                "model.backbone.depth": "$depth",
                "model.backbone.init_cfg.checkpoint": {
                    "$by": "depth",
                    18: "{{ fileDirname }}/../pretrained/digits_r18.pth",
                    34: "{{ fileDirname }}/../pretrained/digits_r34.pth",
                },
                "train_dataloader.dataset.dataset.pipeline": [
                    dict(type="LoadImageFromFile"),
                    dict(type="LoadAnnotations", with_bbox=True),
                    dict(type="Resize", scale=("$scale", "$scale"), keep_ratio=True),
                    dict(type="PackDetInputs"),
                ],
                "val_dataloader.dataset.pipeline.1.scale": ("$scale", "$scale"),
                "test_dataloader.dataset.pipeline.1.scale": ("$scale", "$scale"),
            },
        ),
    ],
    "paper": [
        dict(
            product=dict(depth=[50, 101], scale=[400, 500, 600, 700, 800]),
            set={
                "model.backbone.depth": "$depth",
                "model.backbone.init_cfg.checkpoint": {
                    "$by": "depth",
                    50: "torchvision://resnet50",
                    101: "torchvision://resnet101",
                },
                "train_dataloader.dataset.dataset.pipeline.2.scale": _sides,
                "val_dataloader.dataset.pipeline.1.scale": _sides,
                "test_dataloader.dataset.pipeline.1.scale": _sides,
            },
        )
    ],
}
