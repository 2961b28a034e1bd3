"""Table 1c: anchor scales an octave and aspect ratios, with the config's loss.

The paper's pairs: with four scales only three aspect ratios were tried.
"""

title = "Anchor scales and aspect ratios"
table = "table_1c"
baseline = "scales=3 aspect_ratios=3"

blocks = [
    dict(
        zip=dict(scales=[1, 2, 3, 1, 2, 3, 4], aspect_ratios=[1, 1, 1, 3, 3, 3, 3]),
        set={
            "model.bbox_head.anchor_generator.scales_per_octave": "$scales",
            "model.bbox_head.anchor_generator.ratios": {
                "$by": "aspect_ratios",
                1: [1.0],
                3: [0.5, 1.0, 2.0],
            },
        },
    )
]
