"""``--only``: cells by their coordinates."""

import pytest

from ablations.store.choosing import choose

POINTS = [
    {"loss": "CE"},
    *({"gamma": g, "alpha": a} for g in (0, 0.5, 2.0) for a in (0.25, 0.75)),
]


@pytest.mark.parametrize(
    ("terms", "kept"),
    [
        ([], range(7)),
        (["gamma=2"], [5, 6]),
        (["gamma=2.0", "alpha=.25"], [5]),
        (["gamma=0", "gamma=0.50"], [1, 2, 3, 4]),
        (["!alpha=0.75"], [0, 1, 3, 5]),
        (["gamma=2", "!alpha=0.75"], [5]),
        (["loss=CE"], [0]),
    ],
)
def test_terms_choose(terms: list[str], kept: list[int]) -> None:
    assert choose(terms, POINTS) == list(kept)


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        (["beta=1"], "no axis 'beta'; valid: loss, gamma, alpha"),
        (["gamma=3"], "no cell has that value; valid: 0, 0.5, 2"),
        (["2"], "not '2'"),
        (["=2"], "not '=2'"),
        (["loss=CE", "gamma=2"], "no cell is left"),
    ],
)
def test_a_bad_term_is_named(terms: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        choose(terms, POINTS)
