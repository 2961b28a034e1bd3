"""Does the answer hang on the learning rate? Four losses, each at five rates around the default.

The default's rate was chosen as one for all arms. Here each arm can be looked at with its own best
rate. The cells of the default rate are trials of `gamma_alpha`, too. The rates are taken as they
are: with another batch than the config's they do not follow it.
"""

title = "Four losses over the learning rate"
table = None
tune = "lr"
baseline = {"$by": "protocol", "embedded": "CE lr=0.005", "paper": "CE lr=0.01"}

blocks = [
    dict(
        product=dict(
            loss=["CE", "CE alpha=0.75", "FL gamma=1 alpha=0.25", "FL gamma=2 alpha=0.25"],
            lr={
                "$by": "protocol",
                "embedded": [0.00125, 0.0025, 0.005, 0.01, 0.02],
                "paper": [0.0025, 0.005, 0.01, 0.02, 0.04],
            },
        ),
        set={
            "model.bbox_head.loss_cls": {
                "$by": "loss",
                "CE": dict(type="ablations.CrossEntropyLoss", use_sigmoid=True),
                "CE alpha=0.75": dict(
                    type="ablations.FocalLoss", gamma=0, alpha=0.75, use_sigmoid=True
                ),
                "FL gamma=1 alpha=0.25": dict(
                    type="ablations.FocalLoss", gamma=1, alpha=0.25, use_sigmoid=True
                ),
                "FL gamma=2 alpha=0.25": dict(
                    type="ablations.FocalLoss", gamma=2, alpha=0.25, use_sigmoid=True
                ),
            },
            "optim_wrapper.optimizer.lr": "$lr",
        },
    ),
]
