"""A trial's id depends on what changes its result, and on nothing else."""

import copy
from pathlib import Path

import pytest

from ablations.store.config import config_text
from ablations.sweep.cli import unfinished
from ablations.sweep.errors import UsageError
from ablations.sweep.grid import parse_grid, read_grid
from ablations.sweep.plan import (
    config_differences,
    load_config,
    override,
    parse_options,
    plan,
    prepare_config,
    with_seed,
)
from ablations.sweep.request import Request
from ablations.sweep.schedule import rescale, scale_to_batch

CONFIG = "configs/retinanet_r18_digits.py"


def ids(config: dict, seeds: tuple[int, ...] = (0,)) -> list[str]:
    return [trial.id for trial in plan(config, parse_grid(*read_grid("gamma_alpha")), seeds)]


@pytest.fixture(scope="module")
def config() -> dict:
    return load_config(CONFIG)


def test_every_point_and_seed_is_a_trial_of_its_own(config: dict) -> None:
    found = ids(config, (0, 1, 2))
    assert len(set(found)) == len(found) == 48


def test_paths_and_workers_do_not_change_an_id(config: dict) -> None:
    moved = copy.deepcopy(config)
    moved["train_dataloader"]["dataset"]["dataset"]["data_root"] = "/elsewhere/digits/"
    moved["val_evaluator"]["ann_file"] = "/elsewhere/digits/annotations/val.json"
    moved["train_dataloader"]["num_workers"] = 4
    moved["log_level"] = "ERROR"
    moved["work_dir"] = "/tmp/x"
    moved["dataset_info"]["group_key"] = "scene_id"
    assert ids(moved) == ids(config)


@pytest.mark.parametrize(
    "name", ["cache_images", "limit_mb", "builder", "outfile", "num_workers", "data_root"]
)
def test_a_losss_own_parameter_counts_whatever_its_name(config: dict, name: str) -> None:
    def one(value: int) -> str:
        loss = {"type": "MyLoss", name: value, "parts": [{"type": "Part", name: value}]}
        block = {"points": [{"v": 1}], "set": {"model.bbox_head.loss_cls": loss}}
        return next(plan(config, parse_grid("g", {"blocks": [block]}), [0])).id

    assert one(1) != one(2)


@pytest.mark.parametrize(
    "path",
    [
        "model.bbox_head.cache_images",
        "train_dataloader.dataset.limit_mb",
        "train_dataloader.dataset.dataset.backend_args",
        "train_dataloader.dataset.dataset.pipeline.0.backend_args",
        "train_dataloader.pin_memory",
        "val_dataloader.dataset.backend_args",
        "val_evaluator.outfile",
        "dataset_info.builder",
    ],
)
def test_how_fast_and_where_does_not_count(config: dict, path: str) -> None:
    assert ids(override(config, f"+{path}", "changed")) == ids(config)


@pytest.mark.parametrize(
    "path",
    [
        "model.backbone.num_workers",
        "train_dataloader.dataset.dataset.pipeline.1.num_workers",
        "optim_wrapper.optimizer.limit_mb",
        "train_cfg.cache_images",
    ],
)
def test_the_same_names_elsewhere_count(config: dict, path: str) -> None:
    assert not set(ids(override(config, f"+{path}", 1))) & set(ids(config))


@pytest.fixture
def own_loss(config: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict:
    """A config that imports a loss of the current folder, which imports another module there."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_loss_of_plan.py").write_text("import my_maths_of_plan\n")
    (tmp_path / "my_maths_of_plan.py").write_text("scale = 1\n")
    imports = {"imports": ["ablations.training", "my_loss_of_plan"], "allow_failed_imports": False}
    return {**config, "custom_imports": imports}


@pytest.mark.parametrize("module", ["my_loss_of_plan", "my_maths_of_plan"])
def test_an_edited_loss_of_the_users_own_is_another_trial(own_loss: dict, module: str) -> None:
    before = ids(own_loss)
    with Path(f"{module}.py").open("a") as stream:
        stream.write("scale = 2\n")
    assert not set(ids(own_loss)) & set(before)


def test_ids_without_code_of_the_users_own_stay(config: dict, own_loss: dict) -> None:
    ours = {**config, "custom_imports": {"imports": ["ablations.training.targets"]}}
    assert ids(ours) == ids(config)
    assert not set(ids(own_loss)) & set(ids(config))


def test_a_module_that_is_not_there_is_refused(own_loss: dict) -> None:
    Path("my_loss_of_plan.py").unlink()
    with pytest.raises(UsageError, match="no module named 'my_loss_of_plan', neither in the curr"):
        ids(own_loss)


@pytest.mark.parametrize("seed", [0, 5])
def test_a_trial_with_another_seed_is_the_one_that_would_be_planned(
    own_loss: dict, seed: int
) -> None:
    grid = parse_grid(*read_grid("gamma_alpha"))
    first, planned = next(plan(own_loss, grid, [3])), next(plan(own_loss, grid, [seed]))
    assert with_seed(first, seed, {}) == planned


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("optim_wrapper.optimizer.lr", 0.1),
        ("train_cfg.max_iters", 7),
        ("train_dataloader.batch_size", 8),
        ("model.neck.out_channels", 64),
        ("dataset_info.version", 99),
    ],
)
def test_what_changes_the_result_changes_every_id(config: dict, path: str, value: object) -> None:
    assert not set(ids(override(config, path, value))) & set(ids(config))


def test_whole_floats_and_integers_are_the_same_trial(config: dict) -> None:
    def one(gamma: object) -> str:
        block = {
            "points": [{"gamma": gamma}],
            "set": {"model.bbox_head.loss_cls.gamma": "$gamma"},
        }
        return next(plan(config, parse_grid("g", {"blocks": [block]}), [0])).id

    assert one(2) == one(2.0) != one(2.5)


def test_a_seed_sets_the_weights_and_the_augmentation(config: dict) -> None:
    trial = next(plan(config, parse_grid(*read_grid("gamma_alpha")), [7]))
    assert trial.config["randomness"]["seed"] == 7
    assert trial.config["train_dataloader"]["dataset"]["seed"] == 7


def test_planning_leaves_the_base_config_alone(config: dict) -> None:
    before = copy.deepcopy(config)
    list(plan(config, parse_grid(*read_grid("gamma_alpha")), [0, 1]))
    prepare_config(config, {"train_cfg.max_iters": 3}, 1, smoke=True)
    assert config == before


def test_options_are_literals_and_never_evaluated() -> None:
    parsed = parse_options(["a=1", "b=1e-3", "c=[1, 2]", "d=hello", "e=true", "f=__import__('os')"])
    assert parsed == {
        "a": 1,
        "b": 1e-3,
        "c": [1, 2],
        "d": "hello",
        "e": True,
        "f": "__import__('os')",
    }


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("model.bbox_hed.loss_cls", "no key named 'bbox_hed'.*did you mean bbox_head"),
        ("train_pipeline.9.type", "'9' is not an index of a list of 3"),
        ("train_cfg.max_iters.x", "nothing below 1"),
    ],
)
def test_an_unknown_path_is_refused(config: dict, path: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        override(config, path, 1)


def test_a_plus_allows_a_new_key_at_the_end_of_a_path(config: dict) -> None:
    path = "model.bbox_head.batch_anchors"
    with pytest.raises(UsageError, match="no key named 'batch_anchors'"):
        override(config, path, 5)
    assert override(config, f"+{path}", 5)["model"]["bbox_head"]["batch_anchors"] == 5
    assert "batch_anchors" not in config["model"]["bbox_head"]
    assert override(config, "+train_cfg.max_iters", 5)["train_cfg"]["max_iters"] == 5
    with pytest.raises(UsageError, match="no key named 'head'"):
        override(config, "+model.head.batch_anchors", 5)


def test_points_that_are_the_same_experiment_are_trained_once(config: dict, tmp_path) -> None:
    block = {
        "points": [{"alpha": 0.25}, {"alpha": "usual"}],
        "set": {"model.bbox_head.loss_cls.alpha": {"$by": "alpha", 0.25: "$alpha", "usual": 0.25}},
    }
    grid = parse_grid("g", {"blocks": [block]})
    trials = list(plan(config, grid, [0]))
    assert len(trials) == 2
    request = Request(grid, CONFIG, {}, tmp_path / "none", trials)
    assert [entry.label for entry in unfinished(request)] == ["alpha=usual"]


def test_a_resolved_config_reads_back_to_the_same_values(config: dict, tmp_path) -> None:
    trial = next(plan(config, parse_grid(*read_grid("gamma_alpha")), [0]))
    (tmp_path / "config.py").write_text(config_text(trial.config))
    assert config_differences(load_config(str(tmp_path / "config.py")), trial.config) == []


def test_a_rescaled_schedule_keeps_its_shape(config: dict) -> None:
    old = config["train_cfg"]["max_iters"]
    half = rescale(config, old // 2)
    warmup, cosine = half["param_scheduler"]
    assert half["train_cfg"]["max_iters"] == half["train_cfg"]["val_interval"] == old // 2
    assert warmup["end"] == cosine["begin"] == config["param_scheduler"][0]["end"] // 2
    assert cosine["end"] == old // 2
    steps = {
        "train_cfg": {"max_iters": 90000},
        "param_scheduler": [
            {"type": "MultiStepLR", "by_epoch": False, "milestones": [60000, 80000]}
        ],
    }
    assert rescale(steps, 900)["param_scheduler"][0]["milestones"] == [600, 800]


def test_the_learning_rate_follows_the_batch_linearly(config: dict) -> None:
    lr = config["optim_wrapper"]["optimizer"]["lr"]
    iterations = config["train_cfg"]["max_iters"]
    four = scale_to_batch(config, 4)
    assert four["optim_wrapper"]["optimizer"]["lr"] == pytest.approx(4 * lr)
    assert four["train_cfg"]["max_iters"] == iterations // 4
    assert scale_to_batch(config, 1) == config


def test_a_batch_that_the_rate_cannot_follow_is_refused(config: dict) -> None:
    silent = {key: value for key, value in config.items() if key != "auto_scale_lr"}
    assert scale_to_batch(silent, 1) == silent
    with pytest.raises(UsageError, match="does not say for which batch"):
        scale_to_batch(silent, 2)
