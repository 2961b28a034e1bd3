"""Configs find the losses by name, and light modules stay light to import."""

import subprocess
import sys

import pytest
import torch

from ablations.losses import registry


def test_mmdet_builds_our_loss_by_scoped_name():
    from mmdet.registry import MODELS

    loss = MODELS.build({"type": "ablations.FocalLoss", "gamma": 1.0, "alpha": None})
    assert type(loss).__module__ == "ablations.losses.modules"
    assert loss.use_sigmoid


@pytest.mark.parametrize("module", ["ablations", "ablations.losses", "ablations.losses.functional"])
def test_import_stays_light(module):
    code = f"import sys, {module}; print('mmdet' in sys.modules, 'mmengine' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"type": "ablations.FocalLoss", "gamma": -0.5}, "gamma=-0.5"),
        ({"type": "ablations.FocalLoss", "gamma": float("nan")}, "gamma=nan"),
        ({"type": "ablations.FocalLoss", "alpha": 1.5}, "alpha=1.5"),
        ({"type": "ablations.BalancedCrossEntropyLoss", "alpha": -1}, "alpha=-1"),
        ({"type": "ablations.CrossEntropyLoss", "reduction": "avg"}, "reduction='avg'"),
        ({"type": "ablations.CrossEntropyLoss", "use_sigmoid": False}, "use_sigmoid=False"),
    ],
)
def test_bad_config_is_refused_when_built(config, named):
    with pytest.raises(ValueError, match=named) as caught:
        registry.LOSSES.build(config)
    assert "\n" not in str(caught.value)


def test_reduction_override_none_is_elementwise():
    loss = registry.LOSSES.build({"type": "ablations.FocalLoss"})
    logits, target = torch.randn(5, 3), torch.tensor([0, 3, 2, 3, 1])
    elementwise = loss(logits, target, avg_factor=7, reduction_override="none")
    assert elementwise.shape == (5, 3)
    torch.testing.assert_close(elementwise.sum() / 7, loss(logits, target, avg_factor=7))
