"""Every number of docs/focal_loss.md, computed again from the formulas."""

import re
from math import exp, log
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "focal_loss.md"
NUMBER = r"\d[\d,]*(?:\.\d+)?"


def ce(p_t: float) -> float:
    return -log(p_t)


def fl(p_t: float, gamma: float = 2.0, alpha_t: float = 1.0) -> float:
    return alpha_t * (1 - p_t) ** gamma * -log(p_t)


EASY, HARD = exp(-0.1), exp(-2)  # p_t of a CE of 0.1, and of 2


def sums(gamma: float) -> list[float]:
    easy, hard = 10_000 * fl(EASY, gamma), 50 * fl(HARD, gamma)
    return [gamma, easy, hard, easy / hard, 100 * easy / (easy + hard)]


ANCHORS, PRIOR = 100_000, 0.01

# Section -> what its numbers are, in their order. Numbers that are only given stand as they are.
EXPECTED: dict[str, list[float]] = {
    "The arithmetic of focal loss": [1, 1, 1, 2],
    "Many easy examples outweigh a few hard ones": [
        *(10_000, ce(EASY), EASY, 50, ce(HARD), HARD, sums(0)[-1], 1),
        *(value for gamma in (0, 0.5, 1, 2, 5) for value in sums(gamma)),
        *(2, sums(2)[2] / sums(2)[1]),
        *(100 - 100 * sums(2)[2] / sums(0)[2], 100 * sums(2)[1] / sums(0)[1]),
    ],
    "One easy example beside one hard one": [
        *(2, 0.9, ce(0.9), fl(0.9), ce(0.9) / fl(0.9)),
        *(0.1, ce(0.1), fl(0.1), ce(0.1) / fl(0.1)),
        *(ce(0.1) / ce(0.9), fl(0.1) / fl(0.9)),
        *(ce(0.1) / ce(0.9), 1770, ce(0.1) / 0.1, ce(0.1), 0.1, 1800),
        *(0.25, fl(0.9, alpha_t=0.25), fl(0.1, alpha_t=0.25)),
        *(fl(0.9, alpha_t=1 - 0.25), fl(0.1, alpha_t=1 - 0.25)),
    ],
    "What the paper says (section 3.2, gamma = 2)": [
        *(0.9, ce(0.9) / fl(0.9), 1, 1, 0.9, 2, 1 / (1 - 0.9) ** 2),
        *(0.968, 1000, ce(0.968) / fl(0.968), 1000, 1 - 1000**-0.5),
        *(0.5, ce(0.5) / fl(0.5), 1, 1, 0.5, 2, 1 / (1 - 0.5) ** 2),
    ],
    "The first iterations (sections 3.3 and 4.1)": [
        *(ANCHORS, 0.5, ANCHORS * ce(0.5), 1, 0.01, 0.01, log((1 - PRIOR) / PRIOR), PRIOR),
        *(ANCHORS * ce(1 - PRIOR), ANCHORS * fl(1 - PRIOR), 2, ce(PRIOR), fl(PRIOR)),
    ],
}


def sections() -> dict[str, str]:
    parts = re.split(r"^#+ (.*)$", PAGE.read_text(), flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_every_section_is_checked() -> None:
    assert list(sections()) == list(EXPECTED)


@pytest.mark.parametrize("title", EXPECTED)
def test_every_number_is_what_the_formulas_give(title: str) -> None:
    printed = re.findall(NUMBER, sections()[title])
    expected = EXPECTED[title]
    assert len(printed) == len(expected), printed
    for text, value in zip(printed, expected, strict=True):
        digits = len(text.partition(".")[2])
        assert text.replace(",", "") == f"{value:.{digits}f}", f"{text} should be {value}"


def test_rounded_ratios() -> None:
    """Those that the sources round further than the page's own digits."""
    ratio = fl(0.1) / fl(0.9)
    assert round(ratio, -1) == 1770
    assert round(ratio, -2) == 1800
