"""The default detector with two more pyramid levels: anchors of 24 to 305 px, for larger images."""

_base_ = ["retinanet_r18_digits.py"]

model = dict(
    neck=dict(num_outs=4),
    bbox_head=dict(anchor_generator=dict(strides=[8, 16, 32, 64])),
)
