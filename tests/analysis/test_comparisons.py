from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from ablations.analysis.comparisons import against_baseline, against_best, typical_paired_sd
from ablations.analysis.image_bootstrap import CACHE, RESAMPLES, Resamples, resample_study
from ablations.analysis.paper_protocol import PAPER, differs_from_paper, study_differs_from_paper
from ablations.analysis.study import load_study
from tests.helpers.fabricated import PROTOCOL, Plan, fabricate

FOUR = [{"loss": "CE"}] + [{"gamma": gamma, "alpha": 0.25} for gamma in (0.0, 2.0, 5.0)]
BEST = "gamma=2 alpha=0.25"


def test_a_paired_difference_is_scipys_paired_t(tmp_path: Path) -> None:
    study = load_study([fabricate(tmp_path / "a", Plan(points=FOUR, effects={BEST: 3.0}))])
    row = against_baseline(study, Resamples()).set_index("label").loc[BEST]
    values = study.values()
    test = stats.ttest_rel(values.loc[BEST], values.loc["CE"])
    low, high = test.confidence_interval()
    assert row["p"] == pytest.approx(test.pvalue)
    assert row["difference"] - row["half_seeds"] == pytest.approx(low)
    assert row["difference"] + row["half_seeds"] == pytest.approx(high)
    assert np.isnan(row["half_total"])  # no predictions were kept


def test_a_shift_of_whole_seeds_widens_only_the_unpaired_interval(tmp_path: Path) -> None:
    plan = Plan(points=FOUR, seeds=(0, 1, 2, 3), noise=0.1, seed_shift=3.0)
    rows = against_baseline(load_study([fabricate(tmp_path / "a", plan)]), Resamples())
    assert (rows["half_unpaired"] > 3 * rows["half_seeds"]).all()


def test_only_seeds_that_both_have_are_paired(tmp_path: Path) -> None:
    plan = Plan(points=FOUR, seeds=(0, 1, 2), states={("CE", 0): "failed", (BEST, 1): "diverged"})
    row = against_baseline(load_study([fabricate(tmp_path / "a", plan)]), Resamples()).set_index(
        "label"
    )
    assert row.loc[BEST, "seeds"] == 1
    assert np.isnan(row.loc[BEST, "half_seeds"])
    assert row.loc["gamma=0 alpha=0.25", "seeds"] == 2


def test_the_best_cell_stands_alone_only_if_the_seeds_say_so(tmp_path: Path) -> None:
    clear = Plan(points=FOUR, seeds=(0, 1, 2, 3, 4), effects={BEST: 5.0})
    verdicts = against_best(load_study([fabricate(tmp_path / "clear", clear)]), Resamples())
    assert set(verdicts.set_index("label")["verdict"].drop(BEST)) == {"worse"}
    null = Plan(points=FOUR, seeds=(0, 1, 2, 3, 4))
    verdicts = against_best(load_study([fabricate(tmp_path / "null", null)]), Resamples())
    assert set(verdicts["verdict"]) == {"best mean", "cannot be told apart"}


def test_the_typical_sd_is_that_of_a_paired_difference(tmp_path: Path) -> None:
    plan = Plan(seeds=tuple(range(12)), noise=0.3, files=False)
    sd = typical_paired_sd(load_study([fabricate(tmp_path / "a", plan)]))
    assert sd == pytest.approx(0.3 * np.sqrt(2), rel=0.12)


def test_images_are_resampled_alike_and_kept(tmp_path: Path) -> None:
    plan = Plan(points=FOUR[:2], seeds=(0, 1), images=25)
    work_dir = fabricate(tmp_path / "a", plan)
    study = load_study([work_dir])
    first = resample_study(study)
    assert set(first.ap) == {(label, seed) for label in study.labels for seed in (0, 1)}
    assert all(values.shape == (RESAMPLES,) for values in first.ap.values())
    assert len(list((work_dir / CACHE).glob("*.npy"))) == 4
    again = resample_study(study)
    assert all((again.ap[key] == first.ap[key]).all() for key in first.ap)
    row = against_baseline(study, first).iloc[0]
    spread = np.mean([first.ap[row["label"], s] - first.ap["CE", s] for s in (0, 1)], axis=0)
    assert row["image_sd"] == pytest.approx(spread.std(ddof=1))
    assert row["half_total"] > row["half_seeds"]


def test_of_many_trials_few_are_resampled_those_of_the_best_cell_among_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = Plan(points=FOUR, seeds=(0, 1), images=5, effects={"gamma=5 alpha=0.25": 9.0})
    study = load_study([fabricate(tmp_path / "a", plan)])
    monkeypatch.setattr("ablations.analysis.image_bootstrap.MAX_PREDICTION_BYTES", 0)
    assert len(resample_study(study).ap) == 8
    monkeypatch.setattr("ablations.analysis.image_bootstrap.MAX_TRIALS", 3)
    few = resample_study(study)
    assert set(few.ap) == {("CE", 0), ("gamma=5 alpha=0.25", 0)}
    # Cells whose trials were not resampled have no p value over images.
    monkeypatch.setattr("ablations.analysis.comparisons.ALPHA", 1.0)
    table = against_best(study, few).set_index("label")
    assert table.loc["CE", "verdict"] == "worse"
    assert np.isnan(table.loc[BEST, "p_total"])
    assert table.loc[BEST, "verdict"] == "worse on these images"


def test_many_cells_are_compared_with_the_best_alone_and_no_less_strictly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = Plan(seeds=tuple(range(5)), effects={BEST: 2.0}, files=False)
    study = load_study([fabricate(tmp_path / "a", plan)])
    every = against_best(study, Resamples()).set_index("label")
    monkeypatch.setattr("ablations.analysis.comparisons.MOST_PAIRS", 100)
    alone = against_best(study, Resamples()).set_index("label")
    assert list(alone.index) == list(every.index)
    np.testing.assert_allclose(alone["difference"], every["difference"])
    # Holm's largest factor is Bonferroni's, 120 pairs here; the common variance is a sample's.
    others = alone.index != BEST
    assert (alone["p_seeds"][others] >= 0.5 * every["p_seeds"][others]).all()
    assert (alone["verdict"] == "worse").sum() <= (every["verdict"] == "worse").sum()
    assert (alone["verdict"] == "worse").sum() > 10


def test_the_papers_protocol_is_its_own_and_another_is_named() -> None:
    other_words = PAPER | {"anchor_scales": [1.0, 1.26, 1.59], "data": "CocoDataset", "flip": 0.5}
    assert differs_from_paper(other_words) == []
    assert differs_from_paper(PAPER, "1d") == ["depth 50 (the paper's: 101)"]
    assert "test-dev" in differs_from_paper(PAPER, "1e")[0]
    assert differs_from_paper(PAPER | {"scale": 800}) == ["scale 800 (the paper's: 600)"]
    assert differs_from_paper(PAPER | {"scale": 800}, varied=["scale"]) == []
    assert len(differs_from_paper({})) == len(PAPER)


def test_a_digits_sweep_is_not_the_papers_protocol(tmp_path: Path) -> None:
    study = load_study([fabricate(tmp_path / "a", Plan(points=FOUR, protocol=PROTOCOL))])
    assert any(line.startswith("iterations 1500") for line in study_differs_from_paper(study))
