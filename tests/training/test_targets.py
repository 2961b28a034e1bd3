"""The fast head and preprocessor against mmdet's own, in loss and gradient."""

import copy

import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.structures import InstanceData

from ablations.training.assignment import is_plain

CONFIG = "configs/retinanet_r18_digits.py"


def build(head: str, preprocessor: str) -> torch.nn.Module:
    model = copy.deepcopy(Config.fromfile(CONFIG).model)
    model.bbox_head.type, model.data_preprocessor.type = head, preprocessor
    torch.manual_seed(0)
    built = MODELS.build(model)
    built.init_weights()
    return built.train()


def batch(shift: float = 0.0) -> dict:
    generator = torch.Generator().manual_seed(1)
    images, samples = [], []
    for number in range(3):
        images.append(torch.randint(0, 256, (3, 96, 96), generator=generator, dtype=torch.uint8))
        count = 2 * number  # the first image has no object
        corner = torch.rand(count, 2, generator=generator) * 50 + shift
        size = torch.rand(count, 2, generator=generator) * 25 + 15
        sample = DetDataSample(
            metainfo={"img_id": number, "img_path": f"{number}.png", "img_shape": (96, 96)}
        )
        sample.gt_instances = InstanceData(
            bboxes=torch.cat([corner, corner + size], 1),
            labels=torch.randint(0, 10, (count,), generator=generator),
        )
        samples.append(sample)
    return {"inputs": images, "data_samples": samples}


def losses_and_gradients(model: torch.nn.Module, data: dict) -> tuple[dict, list[torch.Tensor]]:
    data = model.data_preprocessor(copy.deepcopy(data), training=True)
    losses = model(**data, mode="loss")
    total, logged = model.parse_losses(losses)
    model.zero_grad()
    total.backward()
    return logged, [p.grad.clone() for p in model.parameters() if p.requires_grad]


@pytest.mark.usefixtures("scope")
def test_losses_and_gradients_are_mmdets() -> None:
    stock = build("RetinaHead", "DetDataPreprocessor")
    ours = build("CachedRetinaHead", "StackedPreprocessor")
    ours.load_state_dict(stock.state_dict())
    for shift in (0.0, 0.0, 3.0):  # fresh, from the cache, and with boxes moved by augmentation
        expected, expected_gradients = losses_and_gradients(stock, batch(shift))
        found, gradients = losses_and_gradients(ours, batch(shift))
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-7)
        for gradient, reference in zip(gradients, expected_gradients, strict=True):
            assert (gradient - reference).norm() <= 1e-4 * reference.norm() + 1e-7


@pytest.mark.usefixtures("scope")
def test_the_cache_is_used_and_bounded() -> None:
    model = build("CachedRetinaHead", "StackedPreprocessor")
    head = model.bbox_head
    head._cache_images = 2
    calls = []
    original = head._together
    head._together = lambda anchors, images: calls.append(len(images)) or original(anchors, images)
    losses_and_gradients(model, batch())
    losses_and_gradients(model, batch())
    assert calls == [3, 1]  # two images are kept, the third is worked out each time
    assert len(head._targets) == 2


@pytest.mark.usefixtures("scope")
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"min_pos_iou": 0.4},
        {"match_low_quality": False},
        {"gt_max_assign_all": False},
        {"pos_iou_thr": 0.3, "neg_iou_thr": 0.3},
    ],
)
def test_a_batch_is_assigned_as_mmdet_assigns_each_image(changes: dict) -> None:
    cfg = Config.fromfile(CONFIG).model
    cfg.train_cfg.assigner.update(changes)
    head = MODELS.build({**cfg.bbox_head, "train_cfg": cfg.train_cfg, "test_cfg": cfg.test_cfg})
    anchors = torch.cat(head.prior_generator.grid_priors([(12, 12), (6, 6)], device="cpu"))
    generator = torch.Generator().manual_seed(2)
    images = []
    for count in (0, 1, 2, 5, 12):  # of these some lie over one another
        corner = (torch.rand(count, 2, generator=generator) * 60).round()
        size = (torch.rand(count, 2, generator=generator) * 35 + 8).round()
        labels = torch.randint(0, 10, (count,), generator=generator)
        boxes = torch.cat([corner, corner + size], 1)
        images.append(InstanceData(bboxes=boxes, labels=labels))
    images.append(InstanceData(bboxes=boxes[[0, 0, 3]], labels=labels[:3]))  # twins
    meta = {"img_shape": (96, 96), "pad_shape": (96, 96)}
    flags = torch.ones(len(anchors), dtype=torch.bool)
    seen = set()
    for found, objects in zip(head._together(anchors, images), images, strict=True):
        expected = head._alone(anchors, flags, objects, meta)
        for name in ("positive", "labels", "deltas", "ignored", "normaliser"):
            value, wanted = getattr(found, name), getattr(expected, name)
            assert torch.equal(torch.as_tensor(value), torch.as_tensor(wanted)), name
        seen.add((len(found.positive) > 0, len(found.ignored) > 0))
    assert (True, changes.get("neg_iou_thr") != 0.3) in seen
    assert is_plain(head.assigner, head.sampler)


@pytest.mark.usefixtures("scope")
def test_the_classifier_starts_at_the_prior() -> None:
    model = build("CachedRetinaHead", "StackedPreprocessor").eval()
    data = model.data_preprocessor(batch())
    with torch.no_grad():
        scores, _ = model(data["inputs"], mode="tensor")
    mean = torch.cat([level.sigmoid().flatten() for level in scores]).mean()
    assert mean == pytest.approx(0.01, rel=0.05)
    assert scores[0].shape[1] == 9 * 10  # nine anchors a location, a sigmoid for each class
