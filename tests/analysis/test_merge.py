import json
from pathlib import Path

import pytest

from ablations.analysis.merge import code_states, mixed_cells
from ablations.analysis.study import load_study
from tests.helpers.fabricated import PROTOCOL, Plan, fabricate


def test_seeds_of_two_days_make_one_study(tmp_path: Path) -> None:
    tuesday = fabricate(tmp_path / "tuesday", Plan(seeds=(0, 1, 2)))
    friday = fabricate(tmp_path / "friday", Plan(seeds=(3, 4), generator_seed=1))
    study = load_study([tuesday, friday])
    assert study.seeds == [0, 1, 2, 3, 4]
    assert study.values().notna().all().all()


def test_a_trial_in_both_sweeps_counts_once_and_the_finished_one_wins(tmp_path: Path) -> None:
    first = fabricate(tmp_path / "first", Plan(states={("CE", 0): "pending"}))
    second = fabricate(tmp_path / "second", Plan())
    study = load_study([first, second])
    assert len(study.trials) == 48
    assert study.state_of("CE", 0).state == "finished"


def test_another_protocol_is_refused_and_what_differs_is_named(tmp_path: Path) -> None:
    first = fabricate(tmp_path / "first", Plan())
    longer = PROTOCOL | {"iterations": 3000}
    second = fabricate(tmp_path / "second", Plan(seeds=(3,), protocol=longer))
    with pytest.raises(
        ValueError, match=r"protocol.iterations is 1500 in first and 3000 in second"
    ):
        load_study([first, second])


def test_other_points_under_another_protocol_are_refused_as_well(tmp_path: Path) -> None:
    first = fabricate(tmp_path / "first", Plan(points=[{"loss": "CE"}]))
    other = Plan(points=[{"loss": "GHM"}], protocol=PROTOCOL | {"data": "coco"})
    second = fabricate(tmp_path / "second", other)
    with pytest.raises(ValueError, match=r"protocol.data is digits in first and coco in second"):
        load_study([first, second])


def test_what_a_grid_varies_may_differ_between_its_cells(tmp_path: Path) -> None:
    first = fabricate(tmp_path / "sweep", Plan(points=[{"depth": 18}]))
    second_plan = Plan(points=[{"depth": 50}], protocol=PROTOCOL | {"depth": 50})
    second = fabricate(tmp_path / "other", second_plan)
    with pytest.raises(ValueError, match=r"protocol\.depth"):  # constant in each, unequal between
        load_study([first, second])


def test_one_trial_under_two_ids_is_refused(tmp_path: Path) -> None:
    first = fabricate(tmp_path / "first", Plan(points=[{"loss": "CE"}]))
    second = fabricate(tmp_path / "second", Plan(points=[{"loss": "CE"}], generator_seed=7))
    with pytest.raises(ValueError, match=r"CE seed 0 is trial 00000000 in first and 00000007"):
        load_study([first, second])


def _with_code(work_dir: Path, code: dict[str, str]) -> Path:
    for path in (work_dir / "trials").glob("*/record.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"code": code}))
    return work_dir


def test_seeds_of_an_edited_loss_are_not_averaged_with_the_old_ones(tmp_path: Path) -> None:
    points = [{"loss": "mine"}]
    first = fabricate(tmp_path / "first", Plan(points=points))
    second = fabricate(tmp_path / "second", Plan(points=points, seeds=(3,)))
    with pytest.raises(ValueError, match=r"code\.my_loss is aa in first and bb in second"):
        load_study([_with_code(first, {"my_loss": "aa"}), _with_code(second, {"my_loss": "bb"})])


def test_the_packages_own_code_may_differ_and_is_told(tmp_path: Path) -> None:
    points = [{"loss": "CE"}, {"loss": "FL"}]
    first = fabricate(tmp_path / "first", Plan(points=points))
    second = fabricate(tmp_path / "second", Plan(points=points[:1], seeds=(3,)))
    folders = [_with_code(first, {"ablations.losses": "aa"}), second]  # of before it was recorded
    study = load_study(folders)
    found = code_states(study.records)
    assert [one.code for one in found] == [{"ablations.losses": "aa"}, {}]
    assert found[1].seeds == {"CE": [3]}
    assert mixed_cells(found) == ["CE"]
