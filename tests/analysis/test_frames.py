from pathlib import Path

import numpy as np
import pytest

from ablations.analysis.cells import BestAlpha, best_alpha_by_gamma, cell_frame
from ablations.analysis.frames import load_trials
from ablations.analysis.study import gamma_alpha_labels, load_study, paper_figures
from tests.helpers.fabricated import Plan, fabricate


def test_every_planned_trial_is_a_row_whatever_became_of_it(tmp_path: Path) -> None:
    states = {
        ("CE", 0): "pending",
        ("CE", 1): "interrupted",
        ("CE", 2): "failed",
        ("gamma=0 alpha=0.25", 0): "diverged",
    }
    frame = load_trials([fabricate(tmp_path / "digits", Plan(states=states))])
    assert len(frame) == 16 * 3
    ce = frame[frame["label"] == "CE"].set_index("seed")
    assert list(ce["state"]) == ["pending", "interrupted", "failed"]
    assert ce["AP"].isna().all()
    assert ce.loc[2, "reason"] == "ValueError: no such thing"
    assert frame["state"].value_counts()["finished"] == 44


def test_a_cell_is_averaged_over_its_finished_seeds_and_says_so(tmp_path: Path) -> None:
    states = {("CE", 1): "diverged"}
    study = load_study([fabricate(tmp_path / "digits", Plan(states=states))])
    cell = cell_frame(study).loc["CE"]
    kept = study.trials[(study.trials["label"] == "CE") & (study.trials["seed"] != 1)]["AP"]
    assert cell["AP"] == pytest.approx(kept.mean())
    assert cell["finished"] == 2
    assert cell["problems"] == "1 of 3 diverged"


def test_one_seed_has_a_mean_and_no_interval(tmp_path: Path) -> None:
    cell = cell_frame(load_study([fabricate(tmp_path / "digits", Plan(seeds=(7,)))])).loc["CE"]
    assert np.isfinite(cell["AP"])
    assert np.isnan([cell["AP_sd"], cell["AP_low"], cell["AP_high"]]).all()


def test_the_best_alpha_is_the_one_with_the_highest_mean(tmp_path: Path) -> None:
    plan = Plan(effects={"gamma=2 alpha=0.25": 6, "gamma=0 alpha=0.75": 6}, noise=0.1)
    study = load_study([fabricate(tmp_path / "digits", plan)])
    best = {row.gamma: row.alpha for row in best_alpha_by_gamma(study, cell_frame(study))}
    assert list(best) == [0.0, 0.5, 1.0, 2.0, 5.0]
    assert best[2.0] == 0.25
    assert best[0.0] == 0.75


def test_a_gamma_without_a_finished_trial_has_no_best_alpha(tmp_path: Path) -> None:
    states = {
        (f"gamma=5 alpha={alpha:g}", seed): "failed"
        for alpha in (0.25, 0.5, 0.75)
        for seed in (0, 1, 2)
    }
    study = load_study([fabricate(tmp_path / "digits", Plan(states=states))])
    best = best_alpha_by_gamma(study, cell_frame(study))[-1]
    assert best == BestAlpha(5.0, None, None, 0)


def test_plain_ce_is_the_baseline_unless_another_is_named(tmp_path: Path) -> None:
    folder = fabricate(tmp_path / "digits")
    assert load_study([folder]).baseline == "CE"
    assert load_study([folder], "gamma=2 alpha=0.25").baseline == "gamma=2 alpha=0.25"
    with pytest.raises(ValueError, match="no cell is labelled 'FL'"):
        load_study([folder], "FL")


def test_a_grid_may_name_its_own_baseline(tmp_path: Path) -> None:
    own = fabricate(tmp_path / "a", Plan(grid={"baseline": "gamma=2 alpha=0.25"}))
    assert load_study([own]).baseline == "gamma=2 alpha=0.25"
    assert load_study([own], "CE").baseline == "CE"


def test_paper_rows_are_found_by_gamma_and_alpha(tmp_path: Path) -> None:
    figures = paper_figures(load_study([fabricate(tmp_path / "digits")]))
    assert figures.loc["gamma=2 alpha=0.25", "AP"] == 34.0
    assert figures.loc["gamma=0 alpha=0.25", "AP"] == 10.8  # Table 1a
    assert "gamma=5 alpha=0.75" not in figures.index
    assert "CE" not in figures.index


def test_paper_rows_of_another_table_are_found_by_its_own_columns(tmp_path: Path) -> None:
    points = [{"scales": s, "aspect_ratios": r} for s in (1, 2) for r in (1, 3)]
    plan = Plan(points=points, grid={"name": "anchors", "table": "1c"})
    study = load_study([fabricate(tmp_path / "anchors", plan)])
    assert gamma_alpha_labels(study) == {}
    assert paper_figures(study).loc["scales=2 aspect_ratios=3", "AP"] == 34.2


def test_a_coordinate_named_like_a_column_keeps_out_of_its_way(tmp_path: Path) -> None:
    points = [{"device": "a"}, {"device": "b"}]
    frame = load_trials([fabricate(tmp_path / "odd", Plan(points=points))])
    assert set(frame["point.device"]) == {"a", "b"}
    assert set(frame["device"]) == {"cpu"}


def test_a_folder_without_a_sweep_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no sweep"):
        load_trials([tmp_path])
