"""What is counted of each head's imbalance, and that counting changes nothing."""

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmdet.registry import MODELS
from mmengine.config import ConfigDict
from mmengine.optim import build_optim_wrapper
from mmengine.structures import InstanceData

from ablations.sweep.plan import load_config
from ablations.training.classification import Seen, seen
from ablations.training.heads import heads, last_head
from ablations.training.imbalance import ImbalanceHook, cross_entropy_shares
from ablations.training.loss_curve import shares

NAMES = ("retinanet", "ssd", "yolov3", "faster_rcnn", "fcos", "atss")
HEADS = {
    "retinanet": [("bbox_head", "anchors")],
    "ssd": [("bbox_head", "anchors")],
    "yolov3": [("bbox_head", "anchors")],
    "faster_rcnn": [("rpn_head", "anchors"), ("roi_head.bbox_head", "proposals")],
    "fcos": [("bbox_head", "locations")],
    "atss": [("bbox_head", "anchors")],
}
STEPS = 4


def batch(images: int = 2) -> dict[str, Any]:
    """Random images with two objects each, in mmdet's form."""
    from mmdet.structures import DetDataSample

    rng = np.random.default_rng(0)
    inputs, samples = [], []
    for number in range(images):
        inputs.append(torch.from_numpy(rng.integers(0, 256, (3, 96, 96), dtype=np.uint8)))
        corner = torch.from_numpy(rng.uniform(0, 40, (2, 2))).float()
        size = torch.from_numpy(rng.uniform(20, 50, (2, 2))).float()
        objects = InstanceData(
            bboxes=torch.cat([corner, corner + size], 1), labels=torch.tensor([number, 3])
        )
        sample = DetDataSample(
            metainfo=dict(img_shape=(96, 96), img_id=number, scale_factor=(1.0, 1.0))
        )
        sample.gt_instances, sample.ignored_instances = (
            objects,
            InstanceData(bboxes=size[:0].repeat(1, 2)),
        )
        samples.append(sample)
    return {"inputs": inputs, "data_samples": samples}


def detector(name: str) -> tuple[Any, Any]:
    """A detector of the shipped config and its optimizer, from a seed."""
    cfg = ConfigDict(load_config(f"{name}_r18_digits"))
    cfg.model.backbone.init_cfg = None
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.init_weights()  # of SSD's neck nothing else fills the norm
    return model.train(), build_optim_wrapper(model, cfg.optim_wrapper)


def train(name: str, watched: bool) -> tuple[Any, ImbalanceHook, list[Any]]:
    """A few steps, with or without the hook."""
    model, optimizer = detector(name)
    hook = ImbalanceHook(samples=1)
    runner = SimpleNamespace(model=model, iter=0, max_iters=STEPS)
    if watched:
        hook.before_train(runner)
    parts = shares(model)
    read = []
    for runner.iter in range(STEPS):
        data = batch()
        for part in parts:
            part.start()
        if watched:
            hook.before_train_iter(runner, 0, data)
        outputs = model.train_step(data, optimizer)
        if watched:
            hook.after_train_iter(runner, 0, data, outputs)
        read.append((outputs, [part.read() for part in parts]))
    return model, hook, read


@pytest.mark.usefixtures("scope")
@pytest.mark.parametrize("name", NAMES)
def test_every_head_is_counted_and_nothing_is_changed(name: str) -> None:
    model, hook, read = train(name, watched=True)
    state = torch.random.get_rng_state()
    plain, _, unwatched = train(name, watched=False)
    assert torch.equal(torch.random.get_rng_state(), state)
    for key, value in plain.state_dict().items():
        assert torch.equal(model.state_dict()[key], value), key
    assert hook.missing() is None
    entries = hook.entries()
    assert [(entry["head"], entry["unit"]) for entry in entries] == HEADS[name]
    for entry in entries:
        assert 0 < entry["positives"] < entry["candidates"]
        assert all(0 < share < 1 for share in entry["ce_negative_share"].values())
    # The curve's share is there too, and no larger than the loss.
    for (outputs, parts), (_, again) in zip(read, unwatched, strict=True):
        assert [(float(a), n) for a, n in parts] == [(float(a), n) for a, n in again]
        total = sum(outputs[key].item() for key in ("loss_cls", "loss_conf") if key in outputs)
        assert 0 < sum(float(positive) for positive, _ in parts) < total * (1 + 1e-6)
        assert all(number > 0 for _, number in parts)


@pytest.mark.usefixtures("scope")
def test_a_second_stage_counts_what_its_samplers_draw_and_draw_from() -> None:
    _, hook, _ = train("faster_rcnn", watched=True)
    first, second = hook.entries()
    assert (first["candidates"], second["candidates"]) == (64, 32)
    assert 64 < first["before_sampling"]["candidates"] <= 540
    assert 0 < second["before_sampling"]["candidates"] <= 100  # proposals


@pytest.mark.usefixtures("scope")
def test_ssds_candidates_are_all_anchors_not_those_it_mines() -> None:
    _, hook, _ = train("ssd", watched=True)
    (entry,) = hook.entries()
    assert entry["candidates"] == 4 * (144 + 36 + 9)


@pytest.mark.parametrize("softmax", [False, True])
def test_the_share_is_plain_cross_entropys(softmax: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(30, 4, generator=generator)
    background = 3 if softmax else 4
    labels = torch.randint(0, background + 1, (30,), generator=generator)
    weight = (torch.rand(30, generator=generator) < 0.7).float()
    negative, total = cross_entropy_shares(Seen(logits, labels, weight, 1.0, softmax))
    if softmax:
        each = F.cross_entropy(logits, labels, reduction="none") * weight
        expected = each[labels == background].sum()
    else:
        truth = F.one_hot(labels, 5)[:, :4].float()
        each = F.binary_cross_entropy_with_logits(logits, truth, reduction="none") * weight[:, None]
        expected = each[truth == 0].sum()
    assert total.item() == pytest.approx(each.sum().item(), rel=1e-5)
    assert negative.item() == pytest.approx(expected.item(), rel=1e-5)


def test_an_ignored_row_does_not_count_whatever_its_logit() -> None:
    logits = torch.tensor([[1.0, -1.0], [math.nan, 0.0]])
    call = Seen(logits, torch.tensor([0, 2]), torch.tensor([1.0, 0.0]), 1.0)
    assert [int(number) for number in call.counts()] == [1, 1]
    negative, total = cross_entropy_shares(call)
    assert negative.item() == pytest.approx(F.softplus(torch.tensor(-1.0)).item())
    assert total.item() == pytest.approx(2 * F.softplus(torch.tensor(-1.0)).item())


@pytest.mark.parametrize(
    ("iterations", "samples"),
    [(1500, [0, 1, 2, 748, 749, 750, 1497, 1498, 1499]), (4, [0, 1, 2, 3])],
)
def test_iterations_at_the_start_in_the_middle_and_at_the_end(iterations, samples) -> None:
    hook = ImbalanceHook()
    assert [i for i in range(iterations) if hook.windows(i, iterations)] == samples
    assert "start" in hook.windows(0, iterations)
    assert "end" in hook.windows(iterations - 1, iterations)


@pytest.mark.usefixtures("scope")
def test_a_resumed_trial_continues_its_counts() -> None:
    _, hook, _ = train("atss", watched=True)
    checkpoint: dict[str, Any] = {}
    hook.before_save_checkpoint(SimpleNamespace(), checkpoint)
    resumed = ImbalanceHook(samples=1)
    resumed.after_load_checkpoint(SimpleNamespace(), checkpoint)
    resumed.before_train(SimpleNamespace(model=detector("atss")[0]))
    assert resumed.entries() == hook.entries()


def test_a_detector_without_a_loss_to_watch_says_so() -> None:
    hook = ImbalanceHook()
    hook.before_train(SimpleNamespace(model=torch.nn.Linear(2, 2)))
    assert hook.entries() == []
    assert hook.missing() == "no head of Linear has a classification loss to watch"
    assert ImbalanceHook().missing() == "training did not begin"


@pytest.mark.usefixtures("scope")
def test_targets_in_every_form_that_mmdets_heads_have() -> None:
    labels, pred = torch.tensor([0, 2, 1]), torch.zeros(3, 2)
    sigmoid = MODELS.build(dict(type="FocalLoss", use_sigmoid=True))
    softmax = MODELS.build(dict(type="CrossEntropyLoss", use_sigmoid=False))
    quality = MODELS.build(dict(type="QualityFocalLoss", use_sigmoid=True))
    summed = MODELS.build(dict(type="CrossEntropyLoss", use_sigmoid=True, reduction="sum"))
    plain = seen(sigmoid, (pred, labels), {"avg_factor": 4.0})
    assert plain is not None and (plain.background, plain.factor) == (2, 4.0)
    rows = seen(softmax, (), {"cls_score": torch.zeros(3, 3), "label": labels})
    assert rows is not None and rows.softmax and rows.positive_rows().tolist() == [0, 2]
    pair = seen(quality, (pred, (labels, torch.ones(3))), {"weight": torch.ones(3)})
    assert pair is not None and torch.equal(pair.labels, labels)
    dense = seen(summed, (pred[None], torch.eye(3)[None, :, :2]), {"weight": torch.ones(1, 3, 1)})
    assert dense is not None and dense.labels.tolist() == [0, 1, 1, 0, 1, 1]
    assert (dense.factor, len(dense.weight)) == (1.0, 6)
    assert seen(sigmoid, (pred, torch.zeros(3)), {}) is None


@pytest.mark.usefixtures("scope")
def test_the_heads_of_a_detector_and_the_one_whose_classes_it_puts_out() -> None:
    for name in NAMES:
        model, _ = detector(name)
        assert [head.path for head in heads(model)] == [path for path, _ in HEADS[name]]
        assert last_head(model).path == HEADS[name][-1][0]
    assert last_head(torch.nn.Linear(2, 2)) is None
