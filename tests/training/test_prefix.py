"""A backbone's frozen part computed ahead changes nothing but the time."""

import copy
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config, ConfigDict
from mmengine.dataset import pseudo_collate
from mmengine.optim import build_optim_wrapper
from torch import Tensor

from ablations.training import prefix, stream
from ablations.training.layout import Features
from ablations.training.prefix import SharedPrefixHook, share_prefix
from ablations.training.stream import StreamDataset, StreamSampler, share

EMBEDDED = "configs/retinanet_r18_digits.py"
IMAGES, BATCH, STEPS = 18, 4, 7  # the last batch is not full, and the second epoch begins


@pytest.fixture
def config(scope, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """The embedded detector, frozen up to its first stage, on a few images."""
    monkeypatch.setattr(stream, "_shared", {})
    monkeypatch.setattr(prefix, "_shared", None)
    cfg = Config.fromfile(EMBEDDED)
    cfg.model.backbone.update(type="PrefixResNet", frozen_stages=1)
    torch.manual_seed(3)
    backbone = MODELS.build(cfg.model.backbone | dict(init_cfg=None))
    backbone.init_weights()
    for name, value in backbone.state_dict().items():  # statistics that are not 0 and 1
        if "running" in name:
            value.uniform_(0.5, 1.5)
    torch.save({"state_dict": backbone.state_dict()}, tmp_path / "backbone.pth")
    cfg.model.backbone.init_cfg = dict(type="Pretrained", checkpoint=str(tmp_path / "backbone.pth"))
    cfg.train_dataloader.batch_size = BATCH
    cfg.train_dataloader.dataset.dataset.update(data_root=str(digits), indices=IMAGES)
    return cfg


def begin(cfg: Config) -> SimpleNamespace:
    """What a hook sees of a runner when a trial begins to train."""
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.init_weights()
    model.to(memory_format=torch.channels_last).train()
    data = StreamDataset(cfg.train_dataloader.dataset.dataset, seed=1)
    loader = SimpleNamespace(dataset=data, batch_size=BATCH, num_workers=0)
    return SimpleNamespace(
        model=model,
        train_loop=SimpleNamespace(dataloader=loader),
        logger=SimpleNamespace(info=lambda text: None),
    )


def batches(data: StreamDataset) -> Iterator[dict[str, Any]]:
    order = iter(StreamSampler(data, seed=1))
    while True:
        yield copy.deepcopy(pseudo_collate([data[next(order)] for _ in range(BATCH)]))


def train(runner: SimpleNamespace, optim_wrapper: ConfigDict) -> dict[str, list[Tensor]]:
    """Losses and gradients of every step and the final weights."""
    model = runner.model
    optimizer = build_optim_wrapper(model, optim_wrapper)
    found: dict[str, list[Tensor]] = {"losses": [], "gradients": []}
    stack = batches(runner.train_loop.dataloader.dataset)
    for _ in range(STEPS):
        data = model.data_preprocessor(next(stack), True)
        loss, logged = model.parse_losses(model(**data, mode="loss"))
        loss.backward()
        found["losses"] += logged.values()
        found["gradients"] += [p.grad.clone() for p in model.parameters() if p.grad is not None]
        optimizer.step()
        optimizer.zero_grad()
    found["weights"] = list(model.state_dict().values())
    return found


def takes(runner: SimpleNamespace) -> bool:
    """Whether a trial takes the features."""
    SharedPrefixHook().before_train(runner)
    data = runner.train_loop.dataloader.dataset
    return isinstance(data[0]["inputs"], Features)


@pytest.mark.parametrize("norm_eval", [True, False])
def test_losses_gradients_and_weights_are_the_same_bit_for_bit(
    config: Config, norm_eval: bool
) -> None:
    config.model.backbone.norm_eval = norm_eval
    alone = begin(config)
    assert not takes(alone)
    expected = train(alone, config.optim_wrapper)
    share_prefix(config, share(config.train_dataloader.dataset))
    sharing = begin(config)
    assert takes(sharing)
    found = train(sharing, config.optim_wrapper)
    assert len(found["gradients"]) == len(expected["gradients"]) > 20 * STEPS
    for name, values in expected.items():
        assert all(map(torch.equal, found[name], values)), name


def other_weights(cfg: Config) -> None:
    path = cfg.model.backbone.init_cfg.checkpoint + ".other"
    saved = torch.load(cfg.model.backbone.init_cfg.checkpoint, weights_only=True)
    saved["state_dict"]["layer1.0.bn1.running_mean"][0] += 1e-6
    torch.save(saved, path)
    cfg.model.backbone.init_cfg.checkpoint = path


@pytest.mark.parametrize(
    "change",
    [
        other_weights,
        lambda cfg: cfg.model.backbone.update(frozen_stages=0),
        lambda cfg: cfg.model.backbone.update(depth=34, init_cfg=None),
        lambda cfg: cfg.model.data_preprocessor.update(std=[58.0, 57.0, 57.0]),
        lambda cfg: cfg.train_dataloader.dataset.dataset.update(indices=IMAGES - 1),
    ],
    ids=["weights", "frozen", "depth", "normalisation", "images"],
)
def test_a_trial_with_another_prefix_computes_its_own(config: Config, change) -> None:
    share_prefix(config, share(config.train_dataloader.dataset))
    assert takes(begin(config))
    change(config)
    assert not takes(begin(config))


@pytest.mark.parametrize(
    "change",
    [
        lambda cfg: cfg.train_dataloader.dataset.update(prefix_mb=0),
        lambda cfg: cfg.train_dataloader.dataset.update(limit_mb=0),
        lambda cfg: cfg.model.backbone.update(frozen_stages=-1),
        lambda cfg: cfg.model.backbone.update(init_cfg=None),
        lambda cfg: cfg.model.data_preprocessor.update(pad_size_divisor=64),
        lambda cfg: cfg.train_dataloader.dataset.dataset.pipeline.insert(
            2, dict(type="RandomFlip", prob=0.5)
        ),
    ],
    ids=["option", "memory", "not frozen", "no weights", "padding", "augmentation"],
)
def test_nothing_is_shared_where_it_cannot_be(config: Config, change) -> None:
    change(config)
    share_prefix(config, share(config.train_dataloader.dataset))
    assert prefix._shared is None
    assert not takes(begin(config))
