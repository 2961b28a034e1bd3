"""Grids are data: their points are what is trained."""

import pytest

from ablations.sweep.errors import UsageError
from ablations.sweep.grid import parse_grid, read_grid
from ablations.sweep.plan import load_config, plan, prepare_config

LOSS = "model.bbox_head.loss_cls"


def test_gamma_alpha_is_a_product_and_cross_entropy() -> None:
    grid = parse_grid(*read_grid("gamma_alpha"))
    found = {(p.coordinates.get("gamma"), p.coordinates.get("alpha")) for p in grid.points}
    product = {(gamma, alpha) for gamma in (0, 0.5, 1, 2, 5) for alpha in (0.25, 0.5, 0.75)}
    assert found == product | {(None, None)}
    assert len(grid.points) == 16
    assert grid.points[-1].label == "CE"
    loss = grid.points[0].overrides[LOSS]
    assert (loss["gamma"], loss["alpha"]) == (0, 0.25)


def test_listings() -> None:
    block = {"set": {"lr": "$a"}}
    product = parse_grid("g", {"blocks": [{"product": {"a": [1, 2], "b": [3, 4]}, **block}]})
    assert [tuple(p.coordinates.values()) for p in product.points] == [
        (1, 3),
        (1, 4),
        (2, 3),
        (2, 4),
    ]
    zipped = parse_grid("g", {"blocks": [{"zip": {"a": [1, 2], "b": [3, 4]}, **block}]})
    assert [tuple(p.coordinates.values()) for p in zipped.points] == [(1, 3), (2, 4)]
    assert [p.overrides["lr"] for p in zipped.points] == [1, 2]
    points = parse_grid("g", {"blocks": [{"points": [{"a": 5}], **block}]})
    assert points.points[0].label == "a=5"


def test_values_can_follow_a_coordinate() -> None:
    grid = parse_grid(
        "g",
        {
            "blocks": [
                {"product": {"a": ["x", "y"]}, "set": {"v": {"$by": "a", "x": [1], "y": "$a"}}}
            ]
        },
    )
    assert [p.overrides["v"] for p in grid.points] == [[1], "y"]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"blocks": []}, "has no points"),
        ({"blocs": []}, r"no key named 'blocs'.*did you mean blocks"),
        ({"blocks": [{"product": {"a": [1]}}]}, "block 0 has keys"),
        ({"blocks": [{"product": {"a": [1]}, "set": {"v": "$b"}}]}, r"no axis named 'b'; valid: a"),
        ({"blocks": [{"zip": {"a": [1], "b": [1, 2]}, "set": {}}]}, "different lengths"),
        (
            {"blocks": [{"points": [{"a": "z"}], "set": {"v": {"$by": "a", "x": 1}}}]},
            "no case of a named 'z'; valid: x",
        ),
    ],
)
def test_what_is_wrong_is_named(spec: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_grid("g", spec)


def test_an_unknown_grid_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"no grid named 'gama_alpha'; valid: .*gamma_alpha"):
        parse_grid(*read_grid("gama_alpha"))


def test_values_can_follow_the_protocol_anywhere() -> None:
    def chosen(embedded: object, paper: object) -> dict:
        return {"$by": "protocol", "embedded": embedded, "paper": paper}

    listed = {"product": {"a": chosen([1], [2, 3])}, "set": {"v": ["$a", chosen("x", "y")]}}
    spec = {"blocks": [listed], "baseline": chosen("a=1", "a=3")}
    small, full = (parse_grid("g", spec, protocol) for protocol in ("embedded", "paper"))
    assert [point.overrides["v"] for point in small.points] == [[1, "x"]]
    assert [point.overrides["v"] for point in full.points] == [[2, "y"], [3, "y"]]
    assert (small.baseline, full.baseline) == ("a=1", "a=3")
    more = {"points": [{"a": 5}, {"a": 6}], "set": {"v": "$a"}}
    whole = parse_grid("g", {"blocks": chosen([listed], [listed, more])}, "paper")
    assert len(whole.points) == 4
    with pytest.raises(UsageError, match="no protocol named 'papers'; valid: embedded, paper"):
        parse_grid("g", spec, "papers")


def test_a_tuple_stays_a_tuple() -> None:
    """mmdet's Resize takes a tuple for its scale and refuses a list."""
    block = {"points": [{"a": 5}], "set": {"scale": ("$a", "$a")}}
    assert parse_grid("g", {"blocks": [block]}).points[0].overrides["scale"] == (5, 5)


def test_a_baseline_is_a_point() -> None:
    block = {"points": [{"a": 5}], "set": {"v": "$a"}}
    with pytest.raises(UsageError, match="no baseline named 'a=6'; valid: a=5"):
        parse_grid("g", {"blocks": [block], "baseline": "a=6"})


def test_what_is_tuned_is_an_axis() -> None:
    spec = {"blocks": [{"points": [{"a": 5, "lr": 0.1}], "set": {"v": "$a"}}]}
    assert parse_grid("g", spec | {"tune": "lr"}).describe()["tune"] == "lr"
    with pytest.raises(UsageError, match="grid g: 'tune': no axis named 'rate'; valid: a, lr"):
        parse_grid("g", spec | {"tune": "rate"})
    with pytest.raises(UsageError, match=r"grid g: tune is \[\]; it must be a text or None"):
        parse_grid("g", spec | {"tune": []})


@pytest.mark.parametrize(
    ("blocks", "both"),
    [
        (
            [
                {"points": [{"loss": "CE"}], "set": {"v": 1}},
                {"points": [{"loss": "FL"}, {"loss": "CE"}], "set": {"v": 2}},
            ],
            "'CE'.* of block 0 and .*'CE'.* of block 1",
        ),
        (
            [{"product": {"alpha": [0.1234561, 0.5, 0.1234562]}, "set": {"v": "$alpha"}}],
            r"'alpha=0.123456'.*0\.1234561.* and .*0\.1234562",
        ),
        ([{"points": [{"a": 1}, {"a": 1.0}], "set": {"v": "$a"}}], "'a=1'"),
    ],
)
def test_two_points_with_one_label_are_refused_and_both_named(blocks: list, both: str) -> None:
    with pytest.raises(UsageError, match=both):
        parse_grid("g", {"blocks": blocks})


def planned_models(tmp_path, value: object, **config: object) -> dict:
    """The model of a plan's only trial, and its id."""
    base = {"model": {"type": "Mine", "head": {"loss": 1}}, "train_cfg": {"max_iters": 3}, **config}
    spec = {"blocks": [{"points": [{"detector": "A"}], "set": value}]}
    (trial,) = plan(base, parse_grid("g", spec), [0])
    return {"model": trial.config["model"], "id": trial.id, "label": trial.point.label}


def test_a_point_can_name_a_config_whose_part_it_takes(tmp_path) -> None:
    other = tmp_path / "other.py"
    other.write_text("model = dict(type='Other', head=dict(loss=2, more=3))")
    whole = planned_models(tmp_path, {"model": {"$config": str(other)}})
    assert whole["model"] == {"type": "Other", "head": {"loss": 2, "more": 3}}
    assert whole["label"] == "A"
    part = planned_models(tmp_path, {"model.head": {"$config": str(other)}})
    assert part["model"] == {"type": "Mine", "head": {"loss": 2, "more": 3}}
    inside = planned_models(tmp_path, {"model": {"type": "New", "head": {"$config": str(other)}}})
    assert inside["model"] == {"type": "New", "head": {"loss": 2, "more": 3}}
    changed = planned_models(tmp_path, {"model": {"$config": str(other)}, "model.head.loss": 5})
    assert changed["model"]["head"] == {"loss": 5, "more": 3}
    other.write_text("model = dict(type='Other', head=dict(loss=2, more=4))")
    again = planned_models(tmp_path, {"model": {"$config": str(other)}})
    ids = {found["id"] for found in (whole, part, inside, changed, again)}
    assert len(ids) == 5  # the content counts, not the name


def test_a_config_of_mmdets_can_be_named(tmp_path) -> None:
    file = "mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py"
    found = planned_models(tmp_path, {"model": {"$config": file}})
    assert found["model"]["roi_head"]["bbox_head"]["num_classes"] == 80


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"model": {"$config": "nowhere.py"}}, r"no config named 'nowhere\.py'; valid: .*ssd_r18"),
        ({"model": {"$config": "mmdet::nowhere.py"}}, "config mmdet::nowhere.py cannot be read"),
        ({"model": {"$config": 3}}, r"block 0: \$config"),
        ({"model": {"$config": "ssd_r18_digits", "x": 1}}, "stands alone, not with x"),
        (
            {"model.head": {"$config": "ssd_r18_digits"}},
            "model.head: the config ssd_r18_digits has nothing there",
        ),
    ],
)
def test_what_is_wrong_with_a_named_config_is_one_line(tmp_path, value, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        planned_models(tmp_path, value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("path", ["model.bbox_head.loss_cls", "+model.bbox_head.loss_cls"])
def test_a_loss_of_ssd_cannot_be_set_and_that_is_said(path: str) -> None:
    config = load_config("ssd_r18_digits")
    loss = {"type": "ablations.CrossEntropyLoss"}
    grid = parse_grid("g", {"blocks": [{"points": [{"loss": "CE"}], "set": {path: loss}}]})
    with pytest.raises(UsageError, match="SSDHead computes its loss itself"):
        list(plan(config, grid, [0]))
    with pytest.raises(UsageError, match="SSDHead computes its loss itself"):
        prepare_config(config, {path: loss}, 1, False)
