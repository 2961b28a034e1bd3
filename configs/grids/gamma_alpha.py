"""Table 2 (the paper's 1a and 1b in one): focal loss over gamma and alpha, and plain CE."""

title = "Focal loss over gamma and alpha"
table = "table_1b"
blocks = [
    dict(
        product=dict(gamma=[0, 0.5, 1, 2, 5], alpha=[0.25, 0.5, 0.75]),
        set={
            "model.bbox_head.loss_cls": dict(
                type="ablations.FocalLoss", gamma="$gamma", alpha="$alpha", use_sigmoid=True
            )
        },
    ),
    dict(
        points=[dict(loss="CE")],
        set={"model.bbox_head.loss_cls": dict(type="ablations.CrossEntropyLoss", use_sigmoid=True)},
    ),
]
