"""Crops of one photograph are drawn together, and too few photographs carry no interval."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from ablations.analysis.comparisons import against_baseline, against_best
from ablations.analysis.image_bootstrap import (
    CACHE,
    FEWEST_GROUPS,
    RESAMPLES,
    SEED,
    Resamples,
    resample_study,
)
from ablations.analysis.image_groups import ImageGroups, find_groups, group_key, group_numbers
from ablations.analysis.matching import match_trial
from ablations.analysis.resampling import group_weights, resampled_figures
from ablations.analysis.study import load_study
from ablations.reporting.report import write_report
from ablations.store.record import PREDICTIONS
from tests.helpers.fabricated import Plan, fabricate

pytestmark = pytest.mark.usefixtures("sketched")

TWO = [{"loss": "CE"}, {"gamma": 2.0, "alpha": 0.25}]
OTHER = "gamma=2 alpha=0.25"


def plan(groups: int, **more: object) -> Plan:
    return Plan(points=TWO, seeds=(0, 1), images=24, groups=groups, files=False, **more)  # type: ignore[arg-type]


def test_all_images_of_a_drawn_group_come_with_it() -> None:
    groups = np.array([0, 1, 0, 2, 1, 0])
    weights = group_weights(groups, 50, np.random.default_rng(0))
    assert weights.shape == (50, 6)
    for number in range(3):
        assert (np.ptp(weights[:, groups == number], axis=1) == 0).all()
    assert (weights[:, [0, 1, 3]].sum(axis=1) == 3).all()  # as many groups as there are


def test_groups_are_numbered_as_they_come_and_an_image_without_one_is_alone() -> None:
    named = {1: "a", 2: "b", 3: "a", 4: None, 6: 7}
    truth = {"images": [{"id": i, "scene": named[i]} for i in named] + [{"id": 5}]}
    numbers = group_numbers(truth, np.array([1, 2, 3, 4, 5, 6]), "scene")
    assert numbers.tolist() == [0, 1, 0, 2, 3, 4]


def test_every_trial_is_scored_on_the_same_drawn_groups_exactly(tmp_path: Path) -> None:
    study = load_study([fabricate(tmp_path / "a", plan(FEWEST_GROUPS))])
    found = resample_study(study)
    assert found.groups == ImageGroups("group", FEWEST_GROUPS, 24)
    numbers = np.arange(24) % FEWEST_GROUPS
    weights = group_weights(numbers, RESAMPLES, np.random.default_rng(SEED))
    (annotations,) = (tmp_path / "a").glob("annotations-*.json")
    for state in study.records:
        matches = match_trial(annotations, state.folder / PREDICTIONS)
        expected = resampled_figures(matches, weights)[:, 0]
        np.testing.assert_allclose(found.ap[state.entry.label, state.entry.seed], expected)


def test_the_interval_makes_up_for_few_groups(tmp_path: Path) -> None:
    study = load_study([fabricate(tmp_path / "a", plan(FEWEST_GROUPS))])
    found = resample_study(study)
    gap = np.mean([found.ap[OTHER, s] - found.ap["CE", s] for s in (0, 1)], axis=0)
    sd = gap.std(ddof=1) * np.sqrt(FEWEST_GROUPS / (FEWEST_GROUPS - 1))
    row = against_baseline(study, found).iloc[0]
    assert row["image_sd"] == pytest.approx(sd)
    images = stats.t.ppf(0.975, FEWEST_GROUPS - 1) * sd
    assert row["half_total"] == pytest.approx(np.hypot(row["half_seeds"], images))
    verdict = against_best(study, found)
    assert verdict["p_total"].notna().sum() == 1
    assert (verdict["p_total"] > verdict["p_seeds"])[verdict["p_total"].notna()].all()


def test_resamples_are_not_taken_over_a_change_of_grouping(tmp_path: Path) -> None:
    work_dir = fabricate(tmp_path / "a", plan(FEWEST_GROUPS, group_key="scene"))
    grouped = resample_study(load_study([work_dir]))
    for path in work_dir.glob("trials/*/record.json"):
        record = json.loads(path.read_text())
        del record["data"]["group_key"]
        path.write_text(json.dumps(record))
    images = resample_study(load_study([work_dir]))
    assert (grouped.groups is None, images.groups is None) == (False, True)
    assert not np.allclose(grouped.ap["CE", 0], images.ap["CE", 0])
    assert len(list((work_dir / CACHE).glob("*.npy"))) == 8


def test_too_few_groups_carry_no_interval_over_images(tmp_path: Path) -> None:
    work_dir = fabricate(tmp_path / "a", plan(4))
    study = load_study([work_dir])
    found = resample_study(study)
    assert found.too_few_groups
    assert found.ap == {}
    row = against_baseline(study, found).iloc[0]
    assert np.isnan(row["half_total"])
    assert np.isfinite(row["half_seeds"])
    text = write_report([work_dir], tmp_path / "report").read_text()
    assert "The 24 validation images come in 4 groups" in text
    assert f"takes {FEWEST_GROUPS} or more, so none is given" in text
    assert "| cell | seeds | difference, over seeds | p | unpaired |" in text


def test_the_report_says_how_many_groups_there_are(tmp_path: Path) -> None:
    work_dir = fabricate(tmp_path / "a", plan(12, group_key="scene"))
    text = write_report([work_dir], tmp_path / "report").read_text()
    assert "The 24 images come in 12 groups (`scene` in the annotations)" in text
    assert "| over groups of images alone | over seeds and groups of images |" in text


def test_two_keys_in_one_study_are_refused(tmp_path: Path) -> None:
    work_dir = fabricate(tmp_path / "a", plan(12, group_key="scene"))
    path = next(work_dir.glob("trials/*/record.json"))
    path.write_text(path.read_text().replace('"scene"', '"site"'))
    with pytest.raises(ValueError, match="'site'"):
        group_key(load_study([work_dir]))


def test_annotations_without_groups_are_resampled_by_image(tmp_path: Path) -> None:
    work_dir = fabricate(tmp_path / "a", plan(0))
    (annotations,) = work_dir.glob("annotations-*.json")
    predictions = next(work_dir.glob(f"trials/*/{PREDICTIONS}"))
    assert find_groups(json.loads(annotations.read_text()), predictions, "group") is None
    assert resample_study(load_study([work_dir])).df == Resamples().df == np.inf
