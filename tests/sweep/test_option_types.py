"""An override is of the type that it replaces, or it is refused before anything is planned."""

from pathlib import Path
from typing import Any

import pytest

from ablations.sweep.errors import UsageError
from ablations.sweep.option_types import check_type
from ablations.sweep.plan import load_config, parse_options, prepare_config

CONFIG = "configs/retinanet_r18_digits.py"


def prepared(*options: str) -> dict[str, Any]:
    return prepare_config(load_config(CONFIG), parse_options(options), 1, smoke=False)


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("optim_wrapper.optimizer.lr=0,01", "a number, not a str"),
        ("optim_wrapper.optimizer.lr=0,1", "a number, not a tuple"),
        ("optim_wrapper.optimizer.lr=true", "a number, not a bool"),
        ("train_cfg.max_iters=1e3x", "a whole number, not a str"),
        ("train_cfg.max_iters=10.5", "a whole number, not a float"),
        ("train_cfg.max_iters=True", "a whole number, not a bool"),
        ("model.bbox_head.num_classes='10'", "a whole number, not a str"),
        ("optim_wrapper.optimizer.fused=1", "True or False, not a int"),
        ("log_level=5", "a string, not a int"),
        ("optim_wrapper.optimizer.betas=0.9", "a tuple, not a float"),
        ("optim_wrapper.optimizer.betas=('0.8',0.99)", "a number, not a str"),
        ("model.bbox_head.anchor_generator.strides=[8,'16']", "a whole number, not a str"),
        ("optim_wrapper.clip_grad=1.0", "a dict, not a float"),
        ("optim_wrapper.clip_grad={'max_norm':'1,0'}", "a number, not a str"),
        ("param_scheduler.0.end=250.5", "a whole number, not a float"),
    ],
)
def test_another_type_is_one_line_with_path_value_and_type(option: str, expected: str) -> None:
    with pytest.raises(UsageError) as refused:
        prepared(option)
    text = str(refused.value)
    path = option.partition("=")[0]
    assert text.startswith(f"--cfg-options {path}")
    assert f"takes {expected}" in text
    assert "\n" not in text


@pytest.mark.parametrize(
    ("path", "text", "value"),
    [
        ("train_cfg.max_iters", "1e3", 1000),
        ("optim_wrapper.optimizer.lr", "1", 1),
        ("load_from", "weights.pth", "weights.pth"),  # was None
        ("param_scheduler", "None", None),
        ("optim_wrapper.clip_grad", "none", None),
        ("optim_wrapper.optimizer.betas", "[0.5, 1]", (0.5, 1)),
        ("model.bbox_head.anchor_generator.strides", "[4e0, 8]", [4, 8]),
        ("optim_wrapper.optimizer", "{'type':'SGD','lr':1}", {"type": "SGD", "lr": 1}),
        ("+model.bbox_head.new", "anything", "anything"),
    ],
)
def test_what_fits_is_taken(path: str, text: str, value: Any) -> None:
    node: Any = prepared(f"{path}={text}")
    for key in path.removeprefix("+").split("."):
        node = node[int(key) if isinstance(node, list) else key]
    assert node == value
    assert type(node) is type(value)


def test_keys_of_dicts_of_ones_own_are_checked_too(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        f'_base_ = ["{Path(CONFIG).resolve()}"]\n'
        "mine = dict(deep=[dict(rate=0.5, on=False)], name=None)\n"
    )
    config = load_config(str(tmp_path / "mine.py"))
    taken = prepare_config(config, {"mine.deep.0.rate": 1, "mine.name": 3}, 1, smoke=False)
    assert taken["mine"] == {"deep": [{"rate": 1, "on": False}], "name": 3}
    with pytest.raises(UsageError, match=r"mine\.deep\.0\.on=1: it takes True or False"):
        prepare_config(config, {"mine.deep.0.on": 1}, 1, smoke=False)


def test_a_whole_fraction_is_converted_and_nothing_else() -> None:
    assert type(check_type("x", 5, 3.0)) is int
    assert type(check_type("x", 5.0, 3)) is int
    assert check_type("x", 5, 2**60) == 2**60
