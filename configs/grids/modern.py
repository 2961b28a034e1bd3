"""Beyond the paper: the losses that people compare focal loss with.

mmdet's own are those it registers that take an anchor's integer label: FocalLoss (the same
mathematics as ours, so its difference from FL is rounding and chance) and GHM-C, with its authors'
bins and momentum. Quality focal and varifocal loss need a soft target for every anchor-class pair
and with it another head; Seesaw and EQL v2 are for hundreds of unbalanced classes. Each loss has
its usual setting, none is tuned: a grid of your own tunes the one you care about.
"""

title = "Losses that are compared with focal loss"
table = None
baseline = "FL"

blocks = [
    dict(
        points=[
            dict(loss=name) for name in ("FL", "CE", "mmdet FL", "GHM-C", "Poly-1", "ASL", "hinge")
        ],
        set={
            "model.bbox_head.loss_cls": {
                "$by": "loss",
                "FL": dict(type="ablations.FocalLoss", gamma=2.0, alpha=0.25, use_sigmoid=True),
                "CE": dict(type="ablations.CrossEntropyLoss", use_sigmoid=True),
                "mmdet FL": dict(type="mmdet.FocalLoss", gamma=2.0, alpha=0.25, use_sigmoid=True),
                # arXiv:1811.05181; mmdet's configs/ghm.
                "GHM-C": dict(type="mmdet.GHMC", bins=30, momentum=0.75, use_sigmoid=True),
                # arXiv:2204.12511.
                "Poly-1": dict(
                    type="ablations.Poly1FocalLoss",
                    gamma=2.0,
                    alpha=0.25,
                    epsilon=1.0,
                    use_sigmoid=True,
                ),
                # arXiv:2009.14119.
                "ASL": dict(
                    type="ablations.AsymmetricLoss",
                    gamma_pos=0.0,
                    gamma_neg=4.0,
                    margin=0.05,
                    use_sigmoid=True,
                ),
                "hinge": dict(type="ablations.HingeLoss", margin=0.5, use_sigmoid=True),
            }
        },
    )
]
