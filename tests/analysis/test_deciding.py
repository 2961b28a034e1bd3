"""Sequential designs: the level over all looks, and what each question's test compares."""

import numpy as np
import pytest
from scipy import stats

from ablations.analysis.comparisons import pair_spreads
from ablations.analysis.deciding import ALPHA, LOOKS, WITHIN, Look, judge, looks, run
from ablations.analysis.seeds import additive
from ablations.analysis.spreads import cell_effects, spreads
from ablations.analysis.variances import noisier_cells

CELLS, SWEEPS = 16, 400
NOISE, MARGIN = 0.25, 0.5
ERROR = 2.6 * np.sqrt(ALPHA * (1 - ALPHA) / SWEEPS)  # of a simulated rate, one in a hundred


def sweeps(means: np.ndarray, noise: np.ndarray | float, seeds: int, rng_seed: int) -> np.ndarray:
    rng = np.random.default_rng(rng_seed)
    shift = rng.normal(0, 1.0, (SWEEPS, 1, seeds))
    noises = np.broadcast_to(noise, means.shape)[:, None]
    return means[:, None] + shift + rng.normal(size=(SWEEPS, len(means), seeds)) * noises


def flags(value: bool, cells: int = CELLS) -> np.ndarray:
    return np.full((1, cells), value)


@pytest.mark.parametrize("most", [2, 3, 10, 12, 50])
def test_the_looks_share_the_level(most: int) -> None:
    found = looks(most)
    assert [look.seeds for look in found] == [*(n for n in LOOKS if n < most), most]
    assert sum(look.level for look in found) == pytest.approx(ALPHA)
    assert all(look.level > 0 for look in found)


@pytest.mark.parametrize("noise", [1.0, np.where(np.arange(8) % 4 == 0, 3.0, 1.0)])
def test_a_stack_has_the_estimates_of_one_table(noise: np.ndarray | float) -> None:
    """Those that the report's verdicts rest on, and they are checked by their own tests."""
    values = np.random.default_rng(1).normal(size=(6, 8, 4)) * np.broadcast_to(noise, 8)[:, None]
    found = spreads(values)
    for one, table in enumerate(values):
        gap, n, sd, df = pair_spreads(table, found.first, found.second)
        np.testing.assert_allclose(found.difference[one], gap)
        np.testing.assert_array_equal(found.n[one], n)
        np.testing.assert_allclose(found.sd[one], sd, rtol=1e-9)
        np.testing.assert_allclose(found.df[one], df, rtol=1e-9)
    values[:, 2:5, 3] = np.nan  # three cells were dropped
    for one, table in enumerate(values):
        cells, shift = additive(table)
        np.testing.assert_allclose(cell_effects(values)[0][one], cells)
        np.testing.assert_allclose(cell_effects(values)[1][one], shift)
        alone = spreads(values[one][None])
        np.testing.assert_allclose(alone.sd[0], spreads(values).sd[one])
    assert noisier_cells(values[0]).shape == (8,)


def test_two_cells_are_compared_by_a_paired_t_test() -> None:
    values = np.array([[[1.0, 2.0, 4.0, 3.5], [0.2, 1.5, 3.1, 2.2]]])
    gap = values[0, 0] - values[0, 1]
    p = stats.ttest_1samp(gap, 0).pvalue
    best = judge("best", values, 0.5, ALPHA, *(flags(v, 2) for v in (False, False, True)))
    assert best.reference[0] == 0
    assert best.p[0, 1] == pytest.approx(p / (1 - WITHIN["best"]))
    assert np.isnan(best.p[0, 0])
    half = best.half[0, 1]
    assert best.difference[0, 1] == pytest.approx(-gap.mean())
    level = ALPHA * (1 - WITHIN["best"])
    assert half == pytest.approx(stats.t.isf(level / 2, 3) * stats.sem(gap))
    base = judge("baseline", values, 0.5, 0.01, *(flags(v, 2) for v in (False, False, True)))
    share = 0.01 * (1 - WITHIN["baseline"]) / ALPHA
    assert base.p[0, 1] == pytest.approx(p / share)
    beyond = stats.ttest_1samp(gap, 0.5, alternative="less").pvalue
    capped = min(1.0, beyond / (0.01 * WITHIN["baseline"] / ALPHA))
    assert base.p_within[0, 1] == pytest.approx(capped)


WORLDS = {
    "equal": (np.zeros(CELLS), NOISE),
    "one better": (np.where(np.arange(CELLS) == 5, MARGIN, 0.0), NOISE),
    "half worse": (np.where(np.arange(CELLS) < 8, 0.0, -MARGIN), NOISE),
    # Rightly called different, the others must not leave their level to a wrong "no difference".
    "all a margin away": (np.where(np.arange(CELLS) == 0, 0.0, MARGIN), NOISE / 2),
    "noisy baseline": (np.zeros(CELLS), np.where(np.arange(CELLS) == 0, 3 * NOISE, NOISE)),
}


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("question", ["best", "baseline"])
def test_any_wrong_verdict_at_any_look_is_rare(question: str, world: str) -> None:
    means, noise = WORLDS[world]
    ended = run(question, looks(10), sweeps(means, noise, 10, 3), MARGIN)
    gap = means.max() - means if question == "best" else abs(means - means[0])
    false = (ended.apart & (gap == 0)) | (ended.within & (gap >= MARGIN))
    if question == "baseline":
        false |= ended.apart & (np.sign(ended.difference) != np.sign(means - means[0]))
    assert false.any(axis=1).mean() <= ALPHA + ERROR


def test_looking_at_the_full_level_each_time_would_be_wrong() -> None:
    """With two cells no correction for cells hides it."""
    values = sweeps(np.zeros(2), NOISE, 10, 3)
    every = [Look(n, ALPHA) for n in range(2, 11)]
    rates = [run("best", at, values, 0.01).apart.any(axis=1).mean() for at in (every, looks(10))]
    assert rates[0] > ALPHA + ERROR > rates[1]


def test_cells_that_are_out_get_no_more_seeds() -> None:
    means = np.array([0.0] * 12 + [3.0] * 4)
    ended = run("best", looks(10), sweeps(means, NOISE, 10, 4), 0.1)
    assert (ended.have[:, :12] <= 3).mean() > 0.7
    assert (ended.have[:, :12] <= 5).mean() > 0.9
    assert (ended.have[:, 12:] == 10).mean() > 0.95
    assert ended.apart[:, :12].mean() > 0.99
    assert (ended.since[ended.apart] >= 2).all()


def test_a_sweep_stops_when_the_best_is_known() -> None:
    means = np.array([0.0] * 15 + [2.0])
    ended = run("best", looks(10), sweeps(means, NOISE, 10, 5), 0.5)
    assert ended.have.sum(axis=1).mean() < 16 * 5
    assert (~ended.active).all() and ended.apart[:, :15].mean() > 0.98
    assert (ended.have.max(axis=1) < 10).mean() > 0.5


def test_equal_cells_end_within_the_margin() -> None:
    ended = run("baseline", looks(10), sweeps(np.zeros(4), 0.1, 10, 6), 0.5)
    assert ended.within[:, 1:].mean() > 0.95
    assert not ended.within[:, 0].any()
    assert ended.have.sum(axis=1).mean() < 4 * 6


def test_unequal_seeds_do_not_favour_a_cell() -> None:
    """The third seed lifts all cells by 5 AP; the first cell, a little worse, alone has it."""
    values = np.array([[[1.0, 1.2, 6.1], [1.5, 1.6, np.nan], [0.1, 0.2, np.nan]]])
    found = judge("best", values, 0.5, ALPHA, *(flags(v, 3) for v in (False, False, True)))
    assert found.reference[0] == 1
