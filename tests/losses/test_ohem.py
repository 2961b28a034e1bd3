"""Mining picks the hardest anchors that survive suppression, and nothing else changes."""

import pytest
import torch
from mmcv.ops import nms
from mmdet.registry import MODELS
from mmdet.utils import register_all_modules
from mmengine.structures import InstanceData

from ablations.losses.ohem import hardest_anchors, hardest_survivors

# Three boxes in one place, one apart, one apart and ignored.
BOXES = torch.tensor(
    [[0, 0, 10, 10], [0, 0, 10, 9], [0, 1, 10, 10], [50, 50, 60, 60], [80, 80, 90, 90]],
    dtype=torch.float32,
)
SCORES = torch.tensor([1.0, 3.0, 2.0, 0.5, -1.0])
POSITIVE = torch.tensor([False, False, True, True, False])


def test_the_hardest_of_overlapping_anchors_survives():
    kept = hardest_anchors(SCORES, BOXES, POSITIVE, count=5, nms_threshold=0.7)
    assert kept.tolist() == [1, 3]


def test_minibatch_takes_the_highest_losses():
    kept = hardest_anchors(SCORES, BOXES, POSITIVE, count=3, nms_threshold=1.0)
    assert kept.tolist() == [1, 2, 0]


def test_ratio_protects_positives_from_negatives():
    kept = hardest_anchors(SCORES, BOXES, POSITIVE, 4, 0.7, negatives_per_positive=3)
    assert kept.tolist() == [2, 1]  # the hardest positive, and the negatives' survivor
    kept = hardest_anchors(SCORES, BOXES, POSITIVE, 4, 1.0, negatives_per_positive=1)
    assert kept.tolist() == [2, 3, 1, 0]


def test_ratio_without_positives_still_has_negatives():
    kept = hardest_anchors(SCORES, BOXES, POSITIVE & False, 4, 1.0, negatives_per_positive=3)
    assert kept.tolist() == [1, 2, 0]


def test_survivors_are_those_of_suppressing_all_anchors():
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(2000, 2, generator=generator) * 60
    boxes = torch.cat([corner, corner + 20 + torch.rand(2000, 2, generator=generator)], dim=1)
    scores = torch.rand(2000, generator=generator)
    _, all_kept = nms(boxes, scores, 0.5)
    # 3 * 8 candidates are too few to hold 40 survivors: the search must widen.
    for count in (3, 40, 5000):
        kept = hardest_survivors(scores, boxes, scores >= 0, count, 0.5)
        assert kept.tolist() == all_kept[:count].tolist()


def head_config(**options):
    return {
        "num_classes": 3,
        "in_channels": 8,
        "feat_channels": 8,
        "stacked_convs": 1,
        "anchor_generator": {
            "type": "AnchorGenerator",
            "octave_base_scale": 4,
            "scales_per_octave": 1,
            "ratios": [1.0],
            "strides": [8, 16],
        },
        "loss_cls": {"type": "ablations.CrossEntropyLoss", "use_sigmoid": True},
        "loss_bbox": {"type": "L1Loss"},
        "train_cfg": {
            "assigner": {
                "type": "MaxIoUAssigner",
                "pos_iou_thr": 0.5,
                "neg_iou_thr": 0.4,
                "min_pos_iou": 0,
                "ignore_iof_thr": -1,
            },
            "sampler": {"type": "PseudoSampler"},
            "allowed_border": -1,
            "pos_weight": -1,
            "debug": False,
        },
        "test_cfg": {},
        **options,
    }


def losses_and_gradients(head):
    """Classification loss, its gradient in the logits, and box loss, of two images."""
    generator = torch.Generator().manual_seed(1)
    scores = [torch.randn(2, 3, s, s, generator=generator).requires_grad_() for s in (8, 4)]
    boxes = [torch.randn(2, 4, s, s, generator=generator) for s in (8, 4)]
    truth = [
        InstanceData(bboxes=torch.tensor([[0.0, 0, 30, 30]]), labels=torch.tensor([1])),
        InstanceData(bboxes=torch.tensor([[10.0, 10, 60, 60]]), labels=torch.tensor([2])),
    ]
    metas = [{"img_shape": (64, 64), "pad_shape": (64, 64)}] * 2
    losses = head.loss_by_feat(scores, boxes, truth, metas)
    loss = sum(losses["loss_cls"])
    return loss, torch.autograd.grad(loss, scores), sum(losses["loss_bbox"])


def build(**options):
    register_all_modules(init_default_scope=False)
    return MODELS.build(head_config(**options))


def test_keeping_every_anchor_is_retinanet():
    mined = build(type="ablations.OHEMRetinaHead", batch_anchors=1000, nms_threshold=1.0)
    loss, gradients, box_loss = losses_and_gradients(mined)
    expected, expected_gradients, expected_box_loss = losses_and_gradients(build(type="RetinaHead"))
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(gradients, expected_gradients)
    assert box_loss == expected_box_loss > 0


def test_only_the_minibatch_gets_a_gradient_and_boxes_are_untouched():
    mined = build(type="ablations.OHEMRetinaHead", batch_anchors=5, nms_threshold=0.7)
    _, gradients, box_loss = losses_and_gradients(mined)
    for image in range(2):
        anchors = [(level[image] != 0).any(dim=0).sum() for level in gradients]
        assert sum(anchors) == 5
    assert box_loss == losses_and_gradients(build(type="RetinaHead"))[2]


def test_a_diverged_model_is_not_hidden():
    mined = build(type="ablations.OHEMRetinaHead", batch_anchors=5)
    with torch.no_grad():
        mined.retina_cls.bias[0] = torch.nan
    features = [torch.ones(1, 8, 8, 8), torch.ones(1, 8, 4, 4)]
    truth = [InstanceData(bboxes=torch.tensor([[0.0, 0, 30, 30]]), labels=torch.tensor([1]))]
    metas = [{"img_shape": (64, 64), "pad_shape": (64, 64)}]
    losses = mined.loss_by_feat(*mined(features), truth, metas)
    assert sum(losses["loss_cls"]).isnan()


@pytest.mark.parametrize(
    "option",
    [
        {"batch_anchors": 0},
        {"batch_anchors": 1.5},
        {"negatives_per_positive": -3},
        {"nms_threshold": 1.5},
        {"loss_cls": {"type": "ablations.CrossEntropyLoss"}},
    ],
)
def test_bad_options_are_refused(option):
    with pytest.raises(ValueError, match=next(iter(option))):
        build(type="ablations.OHEMRetinaHead", **option)
