"""Table 3: the alternate form FL* of appendix A against focal loss and cross entropy."""

title = "The alternate focal loss FL*"
table = "table_3"
baseline = "CE alpha=0.75"

blocks = [
    dict(
        points=[
            dict(loss="CE", alpha=0.75),  # alpha-balanced: the best row of Table 1a
            dict(loss="FL", gamma=2, alpha=0.25),
            dict(loss="FL*", gamma=2, beta=1),
            dict(loss="FL*", gamma=4, beta=0),
        ],
        set={
            "model.bbox_head.loss_cls": {
                "$by": "loss",
                "CE": dict(type="ablations.FocalLoss", gamma=0, alpha="$alpha", use_sigmoid=True),
                "FL": dict(
                    type="ablations.FocalLoss", gamma="$gamma", alpha="$alpha", use_sigmoid=True
                ),
                "FL*": dict(
                    type="ablations.FocalStarLoss", gamma="$gamma", beta="$beta", use_sigmoid=True
                ),
            }
        },
    )
]
