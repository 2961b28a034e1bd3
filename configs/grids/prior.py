"""Section 4.1: with the prior pi = 0.01 in the classifier's last bias, and without (pi = 0.5).

The paper: without it, plain cross entropy diverges quickly. A trial that diverges is a result.
"""

title = "With and without the prior initialisation"
table = None
baseline = "CE prior=0.01"

blocks = [
    dict(
        product=dict(loss=["CE", "FL"], prior=[0.01, 0.5]),
        set={
            "model.bbox_head.loss_cls": {
                "$by": "loss",
                "CE": dict(type="ablations.CrossEntropyLoss", use_sigmoid=True),
                "FL": dict(type="ablations.FocalLoss", gamma=2.0, alpha=0.25, use_sigmoid=True),
            },
            "model.bbox_head.init_cfg.override.bias_prob": "$prior",
        },
    )
]
