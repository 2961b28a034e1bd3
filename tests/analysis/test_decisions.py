"""The state of a sequential sweep, from its records alone."""

import time

import numpy as np
import pytest

from ablations.analysis.deciding import ALPHA
from ablations.analysis.decisions import (
    Decisions,
    Design,
    Outcomes,
    decide,
    design,
    expected_trials,
    read_design,
    unresolved,
)

LABELS = ["CE", "a", "b", "c", "d"]
EFFECTS = {"CE": 0.0, "a": 2.0, "b": 0.02, "c": -2.0, "d": 1.9}


def ap(cell: str, seed: int) -> float:
    """Small noise, and a large shift that all cells of a seed share."""
    rng = np.random.default_rng(100 * seed + LABELS.index(cell))
    return 30 + EFFECTS[cell] + 2 * (seed % 3) + float(rng.normal(0, 0.1))


def finish(asked: Design, **fates: object) -> tuple[Decisions, Outcomes]:
    """Run a sweep to its end, round by round. ``fates``: what a cell's trials give instead."""
    found: dict[tuple[str, int], float | str | None] = {}
    while todo := decide(asked, found).todo:
        found |= {(c, s): fates.get(c, ap(c, s)) for c, s in todo}  # type: ignore[misc]
    return decide(asked, found), found


def verdicts(decided: Decisions) -> dict[str, str]:
    return {cell.label: cell.verdict for cell in decided.cells}


def test_a_sweep_begins_with_two_seeds_of_everything() -> None:
    asked = design("best", 0.5, 8, LABELS, None)
    first = decide(asked, {})
    assert first.todo == [(cell, seed) for seed in (0, 1) for cell in LABELS]
    assert first.next_look is not None and first.next_look.seeds == 2
    assert verdicts(first) == dict.fromkeys(LABELS, "open")
    some = decide(asked, {("CE", 0): 30.0, ("a", 1): None, ("b", 0): "diverged"})
    assert len(some.todo) == 7
    assert not some.past


def test_each_question_gets_its_answer() -> None:
    decided, _ = finish(design("baseline", 0.5, 10, LABELS, "CE"))
    assert verdicts(decided) == {
        **{"CE": "baseline", "a": "better", "b": "within the margin"},
        **{"c": "worse", "d": "better"},
    }
    assert decided.answered and not decided.todo
    assert all(c.p <= ALPHA and c.since for c in decided.cells if c.label != "CE")
    better = next(cell for cell in decided.cells if cell.label == "a")
    assert better.low > 0.5 and better.high < 3

    decided, found = finish(design("best", 0.5, 10, LABELS, None))
    assert verdicts(decided) == {
        **{"CE": "out", "b": "out", "c": "out"},
        **{"a": "leader", "d": "within the margin"},
    }
    assert decided.reference == "a"
    seeds = {cell.label: cell.seeds for cell in decided.cells}
    assert seeds["c"] < seeds["a"] == seeds["d"]
    assert len(found) == sum(seeds.values())


def test_the_state_is_a_function_of_the_records() -> None:
    asked = design("best", 0.05, 7, LABELS, None)
    decided, found = finish(asked)
    shuffled = dict(sorted(found.items(), key=lambda item: str(item)))
    again = decide(read_design(asked.as_json()), shuffled)
    assert repr(again) == repr(decided)  # NaN included
    # What the design did not ask for is not looked at.
    more = decide(asked, found | {("c", 6): 90.0, ("other", 0): 95.0})
    assert repr(more.cells) == repr(decided.cells)


def test_a_cell_that_diverges_is_out_and_a_failed_trial_is_missing() -> None:
    asked = design("best", 0.5, 6, LABELS, None)
    decided, found = finish(asked, a="diverged", c=None)
    assert verdicts(decided)["a"] == "diverged"
    assert verdicts(decided)["c"] == "no value"
    assert decided.reference == "d"
    assert [cell.given for cell in decided.cells if cell.label in "ac"] == [2, 2]
    # One failed trial of the leader: it goes on with one seed fewer.
    whole, _ = finish(asked)
    found = {(c, s): None if (c, s) == ("a", 0) else ap(c, s) for c in LABELS for s in range(6)}
    missing = decide(asked, found)
    assert not missing.todo
    assert verdicts(missing) == verdicts(whole)
    [leader] = [cell for cell in missing.cells if cell.label == "a"]
    assert leader.seeds == leader.given - 1


def test_without_a_baseline_there_is_no_answer() -> None:
    decided, found = finish(design("baseline", 0.5, 6, LABELS, "CE"), CE="diverged")
    assert len(found) == 2 * len(LABELS)
    assert "the baseline CE has no AP" in decided.stopped
    assert not decided.answered
    nothing, _ = finish(design("best", 0.5, 6, LABELS, None), **dict.fromkeys(LABELS))
    assert nothing.stopped == "no cell has an AP"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"question": "worst"}, "valid: best, baseline"),
        ({"margin": 0.0}, "--margin is 0; it must be above 0"),
        ({"margin": float("nan")}, "--margin is nan"),
        ({"max_seeds": 1}, "--max-seeds is 1; it must be at least 2"),
        ({"cells": ["CE"]}, "there is only CE"),
        ({"baseline": None}, "needs a baseline: no baseline; the cells are CE, a"),
        ({"baseline": "x"}, "the baseline x is not among them"),
        ({"seeds": [1, 2, 3]}, "--seeds names 3 seeds, --max-seeds is 8"),
    ],
)
def test_a_question_that_cannot_be_asked_is_refused(change: dict, message: str) -> None:
    asked = {"question": "baseline", "margin": 0.5, "max_seeds": 8, "cells": LABELS}
    with pytest.raises(ValueError, match=message):
        design(**(asked | {"baseline": "CE"} | change))


def test_a_margin_that_cannot_be_resolved_is_said_with_the_seeds_it_takes() -> None:
    asked = design("baseline", 0.5, 10, LABELS, "CE")
    assert unresolved(asked, 0.2) is None
    found = unresolved(asked, 0.8)
    assert found is not None
    reach, seeds = found
    assert reach > 0.5 and seeds is not None and seeds > 10
    enough = design("baseline", 0.5, seeds, LABELS, "CE")
    assert unresolved(enough, 0.8) is None
    fewer = design("baseline", 0.5, seeds - 1, LABELS, "CE")
    assert unresolved(fewer, 0.8) is not None
    assert unresolved(asked, 500.0) == (pytest.approx(625 * reach), None)
    assert unresolved(asked, float("nan")) is None


def test_the_expected_cost_lies_between_the_next_round_and_everything() -> None:
    asked = design("best", 0.5, 10, LABELS, None)
    assert expected_trials(asked, {}) is None
    found = {(c, s): ap(c, s) for c in LABELS for s in (0, 1)}
    todo = decide(asked, found).todo
    expected = expected_trials(asked, found)
    assert expected is not None
    assert len(todo) <= expected <= 8 * len(LABELS)
    assert expected_trials(asked, finish(asked)[1]) == 0


def test_deciding_on_two_hundred_cells_takes_less_than_a_second() -> None:
    labels = [f"cell {i}" for i in range(200)]
    rng = np.random.default_rng(0)
    asked = design("best", 0.5, 10, labels, None)
    found = {(c, s): float(rng.normal(0, 0.3)) for c in labels for s in range(10)}
    began = time.process_time()
    decided = decide(asked, found)
    assert time.process_time() - began < 1
    assert len(decided.past) == 5
