"""Table 1b: focal loss over gamma, each with the alpha that the paper found best for it.

A list of pairs, not a product; `gamma_alpha` is the product.
"""

title = "Focal loss over gamma, each with the paper's best alpha"
table = "table_1b"

blocks = [
    dict(
        zip=dict(
            gamma=[0, 0.1, 0.2, 0.5, 1, 2, 5],
            alpha=[0.75, 0.75, 0.75, 0.5, 0.25, 0.25, 0.25],
        ),
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
