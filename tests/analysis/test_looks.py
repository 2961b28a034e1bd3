"""Seeds that were added after others had finished: what the commands and the trials' times tell."""

from pathlib import Path

import pytest

from ablations.analysis.looks import command_seeds, looks
from ablations.analysis.study import load_study
from ablations.reporting.report import write_report
from tests.helpers.fabricated import Plan, fabricate

pytestmark = pytest.mark.usefixtures("sketched")

RUN = "python runners/sweep.py --grid gamma_alpha"
DAY = "2026-05-0{}T10:00:00+00:00"


def sweep(work_dir: Path, commands: dict[int, str], trained: dict[int, int]) -> Path:
    """``commands`` by the day they started on, ``trained``: seed -> the day its trials ran."""
    return fabricate(
        work_dir,
        Plan(
            points=[{"loss": "CE"}, {"gamma": 2.0, "alpha": 0.25}],
            seeds=tuple(trained),
            commands={DAY.format(day): f"{RUN} {seeds}" for day, seeds in commands.items()},
            trained={seed: DAY.format(day) for seed, day in trained.items()},
            files=False,
        ),
    )


@pytest.mark.parametrize(
    ("command", "seeds"),
    [
        (RUN, {0}),
        (f"{RUN} --seeds 1 2 3 --workers 2", {1, 2, 3}),
        (f"{RUN} --seeds=4", {4}),
        (f"{RUN} --seeds 1 --seeds 2 3", {2, 3}),
    ],
)
def test_a_commands_seeds(command: str, seeds: set[int]) -> None:
    assert command_seeds(command) == seeds


def test_seeds_added_after_two_had_finished_are_a_look(tmp_path: Path) -> None:
    work_dir = sweep(
        tmp_path / "a",
        {1: "--seeds 1 2", 3: "--seeds 1 2 3", 5: "--seeds 4"},
        {1: 1, 2: 2, 3: 4, 4: 6},
    )
    found = looks(load_study([work_dir]))
    assert found.earlier == [(1, 2), (1, 2, 3)]
    assert found.level(0.05) == pytest.approx(0.15)  # three looks with the report's own
    text = write_report([work_dir], tmp_path / "report").read_text()
    assert "Seeds were added in several goes" in text
    assert "2 (1, 2), then 3 (1, 2, 3)" in text
    assert "up to 15 %" in text
    assert "p < 0.0167" in text


@pytest.mark.parametrize(
    ("commands", "trained"),
    [
        ({1: "--seeds 1 2 3"}, {1: 1, 2: 2, 3: 3}),  # in one go
        ({1: "--seeds 1 2 3", 3: "--seeds 1 2 3"}, {1: 1, 2: 2, 3: 4}),  # continued
        ({1: "--seeds 1", 3: "--seeds 1 2 3"}, {1: 1, 2: 4, 3: 4}),  # one seed gives no p value
        ({1: "--seeds 1 2", 3: "--seeds 3"}, {1: 4, 2: 4, 3: 4}),  # nothing had finished
    ],
)
def test_what_is_no_look(tmp_path: Path, commands: dict[int, str], trained: dict[int, int]) -> None:
    work_dir = sweep(tmp_path / "a", commands, trained)
    assert looks(load_study([work_dir])).count == 1
    text = write_report([work_dir], tmp_path / "report").read_text()
    assert "several goes" not in text


def test_seeds_of_a_later_sweep_are_a_look_at_the_first(tmp_path: Path) -> None:
    first = sweep(tmp_path / "a", {1: "--seeds 1 2"}, {1: 1, 2: 2})
    second = sweep(tmp_path / "b", {3: "--seeds 3 4"}, {3: 4, 4: 4})
    assert looks(load_study([first, second])).earlier == [(1, 2)]
