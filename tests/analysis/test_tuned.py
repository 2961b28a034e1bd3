from pathlib import Path

import numpy as np
import pytest

from ablations.analysis.study import load_study
from ablations.analysis.tuned import _held_out, tuned
from ablations.reporting.figures.writer import FigureWriter
from ablations.reporting.sections.tuning import own_best
from tests.helpers.fabricated import Plan, fabricate

RATES = (0.0025, 0.005, 0.01)
POINTS = [{"loss": loss, "lr": rate} for loss in ("CE", "FL gamma=2") for rate in RATES]
GRID = {"name": "rates", "table": None, "tune": "lr", "baseline": "CE lr=0.005"}
# At the baseline's rate CE is below FL; at CE's own best rate it is above.
TURNED = {"CE lr=0.01": 5.0, "FL gamma=2 lr=0.005": 2.0}


def study_of(folder: Path, **more: object):
    plan = Plan(points=POINTS, grid=GRID, noise=0.05, files=False, **more)  # type: ignore[arg-type]
    return load_study([fabricate(folder, plan)])


def test_a_seed_is_measured_at_the_value_that_is_best_over_the_others() -> None:
    ap = np.array([[[10.0, 10.0, 40.0], [20.0, 20.0, 20.0]]])  # one arm, two values, three seeds
    # Seed 2's 40 makes the first value the best for seeds 0 and 1, but not for itself.
    np.testing.assert_array_equal(_held_out(ap), [[10.0, 10.0, 20.0]])
    assert np.isnan(_held_out(ap[:, :, :1])).all()


def test_arms_are_compared_at_their_own_best(tmp_path: Path) -> None:
    found = tuned(study_of(tmp_path, effects=TURNED))
    assert found is not None and found.usual is not None
    assert found.arms == ["CE", "FL gamma=2"]
    assert found.order(found.mean[:, found.usual]) == ["CE", "FL gamma=2"]
    assert found.order(found.at_best) == ["FL gamma=2", "CE"]
    assert found.at_an_end == ["CE"]
    gap = (found.held_out[1] - found.held_out[0]).mean()
    assert gap == pytest.approx(-3.0, abs=0.3)


def test_a_value_at_which_a_seed_is_missing_is_never_the_best(tmp_path: Path) -> None:
    found = tuned(study_of(tmp_path, effects=TURNED, states={("CE lr=0.01", 1): "diverged"}))
    assert found is not None
    assert found.values[found.best[0]] != 0.01
    assert np.isfinite(found.held_out).all()


def test_the_report_says_whether_the_order_stays(tmp_path: Path) -> None:
    with FigureWriter(tmp_path / "figures") as figures:
        turned = own_best(study_of(tmp_path / "turned", effects=TURNED), figures).text
        flat = study_of(tmp_path / "same", effects={"FL gamma=2 lr=0.005": 2.0})
        same = own_best(flat, figures).text
    assert "own best lr: FL gamma=2 < CE. **At lr=0.005 it is another: CE < FL gamma=2.**" in turned
    assert "last one tried for CE" in turned
    assert "**The order at lr=0.005 is the same.**" in same
    assert (tmp_path / "figures" / "own_best.svg").exists()


def test_a_grid_without_a_tuned_axis_has_no_such_section(tmp_path: Path) -> None:
    plan = Plan(points=POINTS, seeds=(0,), files=False)
    assert own_best(load_study([fabricate(tmp_path, plan)]), FigureWriter(tmp_path)).text == ""
