"""Table 1a: alpha-balanced cross entropy over alpha, and plain cross entropy.

alpha-balanced CE is written as focal loss with gamma = 0, which it is: the cells it shares with
`gamma_alpha` and `gamma_fl` then are the same trials.
"""

title = "alpha-balanced cross entropy over alpha"
table = "table_1a"

blocks = [
    dict(
        product=dict(gamma=[0], alpha=[0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999]),
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
