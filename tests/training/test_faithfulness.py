"""The detectors that are trained here are mmdet's RetinaNet with the paper's numbers."""

import copy
import math
from pathlib import Path
from typing import Any

import mmdet
import pytest
import torch
from mmdet.registry import MODELS, TASK_UTILS
from mmengine.config import Config, ConfigDict
from mmengine.registry import init_default_scope
from torch import Tensor, nn

from ablations.analysis.paper_protocol import differs_from_paper
from ablations.sweep.plan import config_differences
from ablations.sweep.schedule import scale_to_batch
from ablations.training.fingerprint import fingerprint
from tests.helpers.images import labelled_images

PAPER = "configs/retinanet_r50_coco_600.py"
EMBEDDED = "configs/retinanet_r18_digits.py"


@pytest.fixture(autouse=True)
def _scope() -> None:
    import ablations.training  # noqa: F401

    init_default_scope("mmdet")


def build(model: ConfigDict) -> nn.Module:
    """A detector in training mode, initialised as a trial does but without pretrained weights."""
    model = copy.deepcopy(model)
    model.backbone.init_cfg = None
    torch.manual_seed(0)
    built = MODELS.build(model)
    built.init_weights()
    return built.train()


def stock(model: ConfigDict) -> ConfigDict:
    """The same detector from mmdet's parts alone."""
    model = copy.deepcopy(model)
    model.data_preprocessor.type = "DetDataPreprocessor"
    model.backbone.type = "ResNet"
    model.bbox_head.type = "RetinaHead"
    model.bbox_head.loss_cls = dict(type="FocalLoss", use_sigmoid=True, gamma=2.0, alpha=0.25)
    return model


def in_float64(model: nn.Module, data: dict[str, Any]) -> tuple[dict, list[Tensor]]:
    """Losses by name and the gradient of every parameter, the whole model in float64."""
    data = model.data_preprocessor(copy.deepcopy(data), training=True)
    model.double().zero_grad()
    losses = model(data["inputs"].double(), data["data_samples"], mode="loss")
    total, logged = model.parse_losses(losses)
    total.backward()
    return logged, [p.grad for p in model.parameters() if p.requires_grad]


@pytest.mark.parametrize(
    ("config", "size", "classes"), [(PAPER, 64, 80), (EMBEDDED, 96, 10)], ids=["paper", "embedded"]
)
def test_losses_and_gradients_are_those_of_stock_mmdet(
    config: str, size: int, classes: int
) -> None:
    model = Config.fromfile(config).model
    reference, ours = build(stock(model)), build(model)
    ours.load_state_dict(reference.state_dict())
    images = labelled_images(2, size, classes)
    expected, expected_gradients = in_float64(reference, images)
    found, gradients = in_float64(ours, images)
    assert found.keys() == expected.keys() == {"loss_cls", "loss_bbox", "loss"}
    for name, value in expected.items():
        assert value.dtype == torch.float64
        assert value > 0
        torch.testing.assert_close(found[name], value, rtol=1e-9, atol=0)
    assert len(gradients) == len(expected_gradients) > 20
    for gradient, wanted in zip(gradients, expected_gradients, strict=True):
        assert (gradient - wanted).norm() <= 1e-9 * wanted.norm()


def test_the_papers_detector_is_mmdets_but_for_what_the_config_says() -> None:
    configs = Path(mmdet.__file__).parent / ".mim" / "configs"
    mmdets = Config.fromfile(configs / "_base_" / "models" / "retinanet_r50_fpn.py").model
    ours = Config.fromfile(PAPER).model
    changed = {line.partition(":")[0] for line in config_differences(mmdets, ours)}
    assert changed == {
        "neck.relu_before_extra_convs",
        "bbox_head.loss_cls.type",
        "bbox_head.loss_cls.loss_weight",
        "bbox_head.loss_bbox.type",
        "bbox_head.loss_bbox.beta",
        "bbox_head.init_cfg",
        "_scope_",
    }


def test_anchors_at_600_px() -> None:
    """Nine a location on P3 to P7: some 100,000 on a 4:3 photograph, as the paper counts them."""
    generator = TASK_UTILS.build(Config.fromfile(PAPER).model.bbox_head.anchor_generator)
    assert generator.num_base_priors == [9] * 5
    assert generator.strides == [(stride, stride) for stride in (8, 16, 32, 64, 128)]
    found = []
    for width in (800, 1000):  # of 600: 4:3, and the widest that the cap lets through
        padded = [32 * math.ceil(side / 32) for side in (600, width)]
        sizes = [
            tuple(math.ceil(side / stride) for side in padded) for stride, _ in generator.strides
        ]
        anchors = generator.grid_priors(sizes, device="cpu")
        found.append(sum(map(len, anchors)))
    assert found == [
        9 * (76 * 100 + 38 * 50 + 19 * 25 + 10 * 13 + 5 * 7),
        9 * (76 * 128 + 38 * 64 + 19 * 32 + 10 * 16 + 5 * 8),
    ]
    assert 90_000 < found[0] < found[1] < 120_000
    # An octave base of 4 strides, and three scales and ratios: areas of 32 to 512 px at P3 to P7.
    sides = (generator.base_anchors[0][:, 2:] - generator.base_anchors[0][:, :2]).prod(1).sqrt()
    wanted = torch.tensor([32.0 * 2 ** (i / 3) for i in range(3)]).repeat(3)
    torch.testing.assert_close(sides, wanted)


def test_the_papers_classifier_starts_at_the_prior() -> None:
    model = build(Config.fromfile(PAPER).model).eval()
    head = model.bbox_head
    torch.testing.assert_close(
        head.retina_cls.bias.detach(), torch.full((720,), -math.log((1 - 0.01) / 0.01))
    )
    data = model.data_preprocessor(labelled_images(1, 64, 80))
    with torch.no_grad():
        scores, _ = model(data["inputs"], mode="tensor")
    foreground = torch.cat([level.sigmoid().flatten() for level in scores])
    assert foreground.mean() == pytest.approx(0.01, rel=0.05)
    convolutions = [len(head.cls_convs), len(head.reg_convs)]
    assert convolutions == [4, 4]
    assert not {id(p) for p in head.cls_convs.parameters()} & {
        id(p) for p in head.reg_convs.parameters()
    }


def test_the_loss_is_divided_by_the_assigned_anchors() -> None:
    """By the objects' anchors of all images of the batch together, not by all anchors."""
    model = build(Config.fromfile(PAPER).model)
    head = model.bbox_head
    factors = []
    head.loss_cls.register_forward_hook(
        lambda _m, _a, kwargs, _o: factors.append(kwargs["avg_factor"]), with_kwargs=True
    )
    data = model.data_preprocessor(labelled_images(2, 64, 80), training=True)
    sums = []
    original = head.get_targets

    def watched(*args: Any, **kwargs: Any) -> Any:
        found = original(*args, **kwargs)
        sums.append(sum(int((level < 80).sum()) for level in found[0]))
        return found

    head.get_targets = watched
    model(**data, mode="loss")
    assert factors == sums * 5
    assert 2 <= sums[0] < 1000


def test_flips_are_the_only_augmentation() -> None:
    cfg = Config.fromfile(PAPER)
    pipeline = cfg.train_dataloader.dataset.dataset.pipeline
    assert [step.type for step in pipeline] == [
        "LoadImageFromFile",
        "LoadAnnotations",
        "Resize",
        "RandomFlip",
        "PackDetInputs",
    ]
    resize, flip = pipeline[2], pipeline[3]
    assert dict(resize) == dict(type="Resize", scale=(1000, 600), keep_ratio=True)
    assert dict(flip) == dict(type="RandomFlip", prob=0.5)


def test_the_configs_are_the_papers_protocol() -> None:
    r50 = Config.fromfile(PAPER)
    assert differs_from_paper(fingerprint(r50, 8), "1b") == []
    assert differs_from_paper(fingerprint(r50, 1), "1b") == ["batch_size 2 (the paper's: 16)"]
    assert differs_from_paper(fingerprint(r50, 8), "1e") != []
    r101 = Config.fromfile("configs/retinanet_r101_coco_600.py")
    assert differs_from_paper(fingerprint(r101, 8), "1d") == []
    assert differs_from_paper(fingerprint(r101, 8), "1b") == ["depth 101 (the paper's: 50)"]
    assert "data digits (the paper's: coco)" in differs_from_paper(
        fingerprint(Config.fromfile(EMBEDDED), 1), "1b"
    )


def test_the_record_says_what_a_scaled_schedule_is_scaled_from() -> None:
    small = Config(scale_to_batch(Config.fromfile(PAPER)._cfg_dict.to_dict(), 1))
    found = fingerprint(small, 1)
    assert (found["batch_size"], found["scaled_from_batch"]) == (2, 16)
    assert found["lr"] == pytest.approx(0.01 / 8)
    assert found["iterations"] == 720_000
    assert found["lr_steps"] == [480_000, 640_000]
    assert "scaled_from_batch" not in fingerprint(Config.fromfile(PAPER), 8)


def test_the_normaliser_is_a_processs_own_unless_asked_otherwise() -> None:
    cfg = Config.fromfile(PAPER)
    assert fingerprint(cfg, 8)["loss_normaliser"] == "assigned anchors of a process's batch"
    cfg.model.bbox_head.reduce_normaliser = True
    assert fingerprint(cfg, 8)["loss_normaliser"] == "assigned anchors of all processes' batches"
