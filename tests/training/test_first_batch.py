"""What only a real batch shows is found before the first trial."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mmdet.registry import MODELS

from ablations.losses.registry import LOSSES
from ablations.sweep.plan import load_config, override
from ablations.training import first_batch
from ablations.training.first_batch import check_batches

LOSS = "model.bbox_head.loss_cls"
FOCAL = {"type": "ablations.FocalLoss", "gamma": 2.0, "alpha": 0.25, "use_sigmoid": True}

Check = Callable[..., list[str]]


@pytest.fixture(scope="module")
def base(digits: Path) -> dict[str, Any]:
    """The default config on a few images."""
    config = load_config("configs/retinanet_r18_digits.py")
    for dataset in ("train_dataloader.dataset.dataset", "val_dataloader.dataset"):
        config = override(config, f"{dataset}.data_root", str(digits))
        config = override(config, f"+{dataset}.indices", 16)
    return override(config, "val_evaluator.ann_file", str(digits / "annotations" / "val.json"))


@pytest.fixture
def check(base: dict[str, Any]) -> Check:
    """Check the config with something changed, and with each of some losses."""

    def run(path: str = LOSS, value: Any = FOCAL, losses: Any = (FOCAL,)) -> list[str]:
        changed = override(base, path, value)
        return check_batches([override(changed, LOSS, loss) for loss in losses])

    return run


@LOSSES.register_module()
class BreaksBackward(torch.nn.Module):
    """A user's loss that fails where it is differentiated, and not where it is built."""

    use_sigmoid = True

    def __init__(self, when: str = "backward", use_sigmoid: bool = True) -> None:
        super().__init__()
        self.when = when

    def forward(self, pred, target, weight=None, avg_factor=None):
        if self.when == "forward":
            raise RuntimeError("the user has a bug")
        pred.register_hook(self._refuse)
        return pred.square().mean()

    def _refuse(self, gradient):
        raise RuntimeError("the user's gradient has a bug")


def test_the_default_is_right_with_every_loss(check: Check) -> None:
    others = [
        {"type": "ablations.CrossEntropyLoss", "use_sigmoid": True},
        {"type": "FocalLoss", "use_sigmoid": True},
        {**FOCAL, "gamma": 0.5},
    ]
    assert check(losses=[FOCAL, *others]) == []


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (
            "train_dataloader.dataset.dataset.pipeline.0.type",
            "LoadImageFromFil",
            ("train_dataloader", "LoadImageFromFil"),
        ),
        (
            "val_dataloader.dataset.pipeline.1.scale",
            "big",
            ("val_dataloader", "Scale must be a number"),
        ),
        ("+train_dataloader.batch", 3, ("train_dataloader", "batch")),
        ("optim_wrapper.type", "AmpOptimWrapper", ("optim_wrapper", "gpu")),
        ("optim_wrapper.optimizer.type", "AdamX", ("optim_wrapper", "AdamX")),
        ("+optim_wrapper.optimizer.beta", 0.9, ("optim_wrapper", "beta")),
        ("param_scheduler.0.type", "LinearRL", ("param_scheduler", "LinearRL")),
        ("param_scheduler.1.T_maxx", 3, ("param_scheduler", "T_maxx")),
        ("model.bbox_head.num_classes", 5, ("num_classes is 5", "the data has 10 classes")),
        ("model.bbox_head.num_classes", 11, ("num_classes is 11", "the data has 10 classes")),
        ("custom_hooks.0.type", "ChannelsFirstHook", ("hooks", "ChannelsFirstHook")),
        ("model.neck.in_channels", [48], ("training step", "channels")),
        (
            "val_dataloader.dataset.pipeline.3.meta_keys",
            ("img_id",),
            ("a prediction on a validation image",),
        ),
        ("+val_evaluator.limmit", 3, ("val_evaluator", "limmit")),
    ],
)
def test_what_is_wrong_with_the_setting_is_one_line(
    check: Check, path: str, value: Any, words: tuple[str, ...]
) -> None:
    if not torch.cuda.is_available() or path != "optim_wrapper.type":
        if path.endswith("T_maxx"):
            path = f"+{path}"
        errors = check(path, value)
        assert len(errors) == 1
        assert "\n" not in errors[0]
        for word in words:
            assert word in errors[0]


@pytest.mark.parametrize("schedule", [None, {"type": "ConstantLR", "factor": 0.5}])
def test_no_schedule_and_one_schedule_are_right(check: Check, schedule: Any) -> None:
    assert check("param_scheduler", schedule) == []


@pytest.mark.parametrize(
    ("when", "message"),
    [("forward", "the user has a bug"), ("backward", "the user's gradient has a bug")],
)
@pytest.mark.parametrize("first", [True, False])
def test_a_loss_that_breaks_is_named_wherever_it_stands(
    check: Check, when: str, message: str, first: bool
) -> None:
    broken = {"type": "ablations.BreaksBackward", "when": when, "use_sigmoid": True}
    losses = [broken, FOCAL] if first else [FOCAL, broken, {**FOCAL, "gamma": 1.0}]
    (error,) = check(losses=losses)
    assert "BreaksBackward" in error
    assert message in error


def test_what_differs_in_the_loss_alone_is_built_once(
    check: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = []
    build = MODELS.build
    loaded = first_batch.Runner.build_dataloader

    def counted(config, *args, **kwargs):
        built.append(config["type"])
        return build(config, *args, **kwargs)

    def load(config, **kwargs):
        built.append("loader")
        return loaded(config, **kwargs)

    monkeypatch.setattr(first_batch.MODELS, "build", counted)
    monkeypatch.setattr(first_batch.Runner, "build_dataloader", staticmethod(load))
    assert check(losses=[{**FOCAL, "gamma": float(gamma)} for gamma in range(6)]) == []
    assert built.count("RetinaNet") == 1
    assert built.count("loader") == 2
    assert built.count("ablations.FocalLoss") == 6  # one inside the model


def test_another_loss_gets_the_gradient_that_a_whole_step_gives_it(base: dict[str, Any]) -> None:
    """The head's outputs are the leaves; nothing of the network is run again."""
    seen = []

    @LOSSES.register_module(force=True)
    class Watched(torch.nn.Module):
        use_sigmoid = True

        def __init__(self, name: str = "", use_sigmoid: bool = True) -> None:
            super().__init__()

        def forward(self, pred, target, weight=None, avg_factor=None):
            seen.append((pred.is_leaf, pred.shape))
            pred.register_hook(lambda gradient: seen.append(float(gradient.abs().sum())))
            return pred.square().sum()

    losses = [{"type": "ablations.Watched", "name": n, "use_sigmoid": True} for n in "ab"]
    assert check_batches([override(base, LOSS, loss) for loss in losses]) == []
    levels = len(seen) // 4
    shapes = [entry[1] for entry in seen if isinstance(entry, tuple)]
    assert shapes[:levels] == shapes[levels:]
    gradients = [entry for entry in seen if isinstance(entry, float)]
    assert all(value > 0 for value in gradients)
    assert sorted(gradients[:levels]) == pytest.approx(sorted(gradients[levels:]))
