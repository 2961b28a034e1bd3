"""How many seeds resolve what: as the analysis has it, without its packages."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ablations.analysis import comparisons, seeds
from ablations.store.states import sweep_states
from ablations.sweep.dataset import check_data
from ablations.sweep.estimate import estimate
from ablations.sweep.plan import load_config
from ablations.sweep.power import paired_sd, seeds_needed
from tests.helpers.fabricated import Plan, fabricate

CONFIG: dict[str, Any] = {"train_dataloader": {"batch_size": 12}}
TWO = [{"loss": "CE"}, {"gamma": 2.0, "alpha": 0.25}]
RATIOS = [0.01, 0.08, 0.1, 0.15, 0.2, 0.23, 0.28, 0.3, 0.4, 0.5, 0.7, 1.0, 1.5, 3.43, 7.0, 11.0]


@pytest.mark.parametrize("ratio", RATIOS)
def test_seeds_needed_are_the_analysis_own(ratio: float) -> None:
    assert seeds_needed(0.5, 0.5 * ratio) == seeds.seeds_needed(0.5, 0.5 * ratio)


def test_no_noise_takes_two_seeds_and_too_much_no_number() -> None:
    assert seeds_needed(1.0, 0.0) == 2
    assert seeds_needed(0.1, 5.0) is None


def test_the_paired_sd_is_the_analysis_own() -> None:
    table = np.random.default_rng(0).normal(50, 2, (5, 4))
    table[[0, 3], [1, 2]] = np.nan
    ap = {(f"cell {i}", s): table[i, s] for i, s in np.argwhere(np.isfinite(table)).tolist()}
    assert paired_sd(ap) == pytest.approx(float(comparisons.paired_sd(table)))
    assert paired_sd({("a", 0): 50.0, ("b", 0): 51.0}) is None
    assert paired_sd({("a", 0): 50.0, ("a", 1): 51.0}) is None


def known(work_dir: Path, **plan: Any) -> Any:
    return sweep_states(fabricate(work_dir, Plan(points=TWO, files=False, **plan)))[1]


def test_noise_and_cost_come_from_the_finished_trials(tmp_path: Path) -> None:
    states = known(tmp_path / "a", seeds=(0, 1, 2))
    found = estimate(states, states, CONFIG | {"expected_cost": {"paired_sd": 9.0}}, 2, 1, 1000)
    values = {(s.entry.label, s.entry.seed): s.record.metrics["AP"] for s in states}
    assert found.seeds.paired_sd == pytest.approx(paired_sd(values), abs=1e-4)
    assert [row.difference for row in found.seeds.resolves] == [0.5, 1.0, 2.0]
    for row in found.seeds.resolves:
        assert row.seeds == seeds_needed(row.difference, float(paired_sd(values) or 0))
        assert row.trials == 2 * row.seeds
        assert row.device_hours == pytest.approx(row.trials * 80 / 3600, abs=1e-4)
    assert "6 finished trials" in str(found.seeds)
    assert found.as_json()["seeds"]["resolves"][0]["difference"] == 0.5


def test_one_seed_leaves_the_noise_to_the_config(tmp_path: Path) -> None:
    states = known(tmp_path / "a", seeds=(0,))
    said = {"paired_sd": 0.5, "paired_sd_source": "twelve trials of another day"}
    found = estimate(states, states, CONFIG | {"expected_cost": said}, 2, 1, 1000)
    assert found.seeds.resolves[1].seeds == seeds_needed(1.0, 0.5)
    assert "twelve trials of another day" in str(found.seeds)
    nothing = estimate(states, states, CONFIG, 2, 1, 1000)
    assert str(nothing.seeds).startswith("seeds needed: unknown")


def test_the_config_may_name_the_key_of_the_groups_and_a_wrong_one_is_refused(
    tmp_path: Path,
) -> None:
    config = load_config("configs/retinanet_r18_digits.py")
    config["dataset_info"] = config["dataset_info"] | {"group_key": "height"}
    assert check_data(config)["data"]["group_key"] == "height"
    config["dataset_info"]["group_key"] = "scene_id"
    (error,) = check_data(config)["errors"]
    assert "'scene_id'" in error
    assert "file_name" in error
