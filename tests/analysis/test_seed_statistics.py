import numpy as np
import pandas as pd
import pytest
from scipy import stats

from ablations.analysis.agreement import agreement
from ablations.analysis.comparisons import all_pairs, pair_spreads
from ablations.analysis.seeds import (
    additive,
    adjusted_means,
    half_width,
    holm,
    p_value,
    power,
    seed_interval,
    seeds_needed,
)
from ablations.analysis.variances import moderate, noisier_cells
from benchmarks.interval_coverage import (
    NOISE,
    NOISES,
    RATIOS,
    SEEDS,
    GroupedImages,
    combined,
    found,
    images,
    looked,
    marked,
    one_cell,
    paired,
    rank_agreement,
    simulation_error,
)

REPETITIONS = 8000
SLACK = 3 * simulation_error(0.95, REPETITIONS)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(4)


def test_the_interval_of_three_seeds_is_students() -> None:
    # mean 53, sd 0.6, t(2) = 4.3027: 4.3027 * 0.6 / sqrt(3) = 1.4905
    estimate = seed_interval([52.4, 53.0, 53.6])
    assert estimate.mean == pytest.approx(53.0)
    assert estimate.sd == pytest.approx(0.6)
    assert estimate.half_width == pytest.approx(1.4905, abs=1e-4)
    low, high = stats.t.interval(0.95, 2, 53.0, 0.6 / np.sqrt(3))
    assert (estimate.low, estimate.high) == pytest.approx((low, high))


def test_missing_seeds_are_left_out_and_one_seed_has_no_interval() -> None:
    assert seed_interval([52.4, np.nan, 53.6]).n == 2
    assert np.isnan(seed_interval([52.4]).low)
    assert np.isnan(seed_interval([]).mean)


def test_the_combined_interval_has_the_right_ends() -> None:
    assert half_width(0.5, 4, 0.0) == pytest.approx(stats.t.ppf(0.975, 3) * 0.25)
    assert half_width(0.0, 4, 0.3) == pytest.approx(1.959964 * 0.3)
    assert half_width(0.5, 4, 0.3) == pytest.approx(np.hypot(0.795612, 0.587989), abs=1e-5)


def test_p_is_that_of_the_t_test_without_images_and_reaches_5_percent_at_the_intervals_end() -> (
    None
):
    one, other = [52.4, 52.4, 53.4], [56.3, 55.7, 55.0]
    gap = np.subtract(other, one)
    expected = stats.ttest_rel(other, one).pvalue
    assert p_value(gap.mean(), gap.std(ddof=1), 3) == pytest.approx(expected, rel=1e-9)
    edge = half_width(0.7, 3, 0.4)
    assert p_value(edge, 0.7, 3, 0.4) == pytest.approx(0.05, rel=1e-9)
    assert p_value(0.0, 0.7, 3) == pytest.approx(1.0)
    assert np.isnan(p_value(np.nan, 0.7, 3))
    assert p_value(0.0, 0.0, 3) == pytest.approx(1.0)  # the same trials twice


def test_holm_by_hand() -> None:
    # sorted .01 .02 .03 .04 times 4 3 2 1 = .04 .06 .06 .04, then never falling
    np.testing.assert_allclose(
        holm([0.04, 0.01, np.nan, 0.03, 0.02]), [0.06, 0.04, np.nan, 0.06, 0.06]
    )


def test_power_is_that_of_the_noncentral_t(rng: np.random.Generator) -> None:
    simulated, _ = found(5, 1.0, REPETITIONS, rng)
    assert power(1.0, NOISE * np.sqrt(2), 5) == pytest.approx(simulated, abs=0.02)


def test_the_seeds_needed_are_the_fewest_that_suffice() -> None:
    n = seeds_needed(0.5, 0.6)
    assert power(0.5, 0.6, n) >= 0.8 > power(0.5, 0.6, n - 1)
    assert n == 14  # statsmodels' TTestPower().solve_power(0.5 / 0.6, power=0.8) gives 13.4
    needed = seeds_needed([0.001, 0.5, 0.0, -0.5, 0.5], [0.6, np.nan, 0.6, 0.6, 0.0])
    np.testing.assert_array_equal(needed, [np.nan, np.nan, np.nan, 14, 2])


def test_a_huge_difference_is_surely_found() -> None:
    # scipy's cdf of the noncentral t is NaN far in its lower tail, which made the power NaN.
    assert power(1.0, 0.15, 3) == pytest.approx(0.9986, abs=1e-4)
    assert seeds_needed(1.0, 0.15) == 3


def test_few_groups_make_the_images_quantile_students() -> None:
    assert half_width(0.0, 4, 0.3, image_df=7) == pytest.approx(stats.t.ppf(0.975, 7) * 0.3)
    edge = half_width(0.7, 3, 0.4, image_df=7)
    assert p_value(edge, 0.7, 3, 0.4, image_df=7) == pytest.approx(0.05, rel=1e-9)


def test_adjusted_means_undo_a_seed_that_a_cell_lacks() -> None:
    # Seed 1 is ten points worse. b lacks it, so its plain mean is above a's, which is better.
    values = pd.DataFrame(
        [[52.0, 42.0], [51.0, np.nan], [50.0, 40.0], [np.nan, np.nan]], index=["a", "b", "c", "d"]
    )
    assert values.mean(axis=1).idxmax() == "b"
    adjusted = adjusted_means(values)
    np.testing.assert_allclose(adjusted, [47.0, 46.0, 45.0, np.nan])
    assert adjusted.idxmax() == "a"


def test_adjusted_means_are_least_squares_and_plain_with_equal_seeds(
    rng: np.random.Generator,
) -> None:
    table = rng.normal(40, 3, (6, 4))
    table[4] = np.nan
    values = pd.DataFrame(table)
    assert adjusted_means(values).equals(values.mean(axis=1))
    table[[0, 1, 5, 5], [0, 2, 1, 3]] = np.nan
    cell, seed = additive(table)
    known = np.isfinite(table)
    design = [np.concatenate([np.eye(6)[i], np.eye(4)[s]]) for i, s in np.argwhere(known)]
    fitted = np.array(design) @ np.linalg.lstsq(np.array(design), table[known], rcond=None)[0]
    np.testing.assert_allclose((cell[:, None] + seed)[known], fitted)
    assert seed.sum() == pytest.approx(0)


def test_cells_that_share_no_seed_are_compared_by_plain_means() -> None:
    table = np.array([[1.0, 3.0, np.nan], [2.0, 4.0, np.nan], [np.nan, np.nan, 9.0]])
    np.testing.assert_allclose(additive(table)[0], [2.0, 3.0, 9.0])


@pytest.mark.parametrize("n", SEEDS)
def test_intervals_over_seeds_cover(n: int, rng: np.random.Generator) -> None:
    assert one_cell(n, REPETITIONS, rng) == pytest.approx(0.95, abs=SLACK)
    assert paired(n, REPETITIONS, rng) == pytest.approx(0.95, abs=SLACK)


@pytest.mark.parametrize("n", SEEDS)
@pytest.mark.parametrize("ratio", RATIOS)
def test_the_combined_interval_covers(n: int, ratio: float, rng: np.random.Generator) -> None:
    assert 0.95 - SLACK <= combined(n, ratio, REPETITIONS, rng) <= 0.995


def test_pairing_finds_what_the_unpaired_test_misses(rng: np.random.Generator) -> None:
    with_pairs, without = found(5, 1.0, REPETITIONS, rng)
    assert with_pairs > 0.8
    assert without < 0.55
    null, _ = found(3, 0.0, REPETITIONS, rng)
    assert null == pytest.approx(0.05, abs=3 * simulation_error(0.05, REPETITIONS))


@pytest.mark.parametrize("noise", NOISES)
def test_equal_cells_are_not_told_apart(noise: str, rng: np.random.Generator) -> None:
    rate, _ = marked(3, 0.0, NOISES[noise], 150, rng)
    assert rate <= 0.05 + 3 * simulation_error(0.05, 150)


def test_a_planted_best_cell_is_found_among_sixteen(rng: np.random.Generator) -> None:
    _, share = marked(5, 2.0, NOISES["equal"], 20, rng)
    assert share > 0.9


def test_the_rank_interval_covers_and_closes_with_more_seeds(rng: np.random.Generator) -> None:
    assert rank_agreement(3, 40, rng) >= 0.95 - 3 * simulation_error(0.95, 40)


def test_rank_agreement_by_hand() -> None:
    values = pd.DataFrame(
        [[10.0, 10.1, 9.9], [20.0, 20.1, 19.9], [30.0, 30.1, 29.9]], index=["a", "b", "c"]
    )
    published = pd.Series({"a": 1.0, "b": 3.0, "c": 2.0})
    seen = agreement(all_pairs(values), values.mean(axis=1), published)
    assert seen is not None
    assert (seen.agree, seen.disagree, seen.open) == (2, 1, 0)
    assert seen.tau == seen.low == seen.high == pytest.approx(1 / 3)
    assert seen.rho == pytest.approx(0.5)


def test_one_seed_tells_nothing_apart() -> None:
    values = pd.DataFrame([[10.0], [20.0], [30.0]], index=["a", "b", "c"])
    pairs = all_pairs(values)
    assert np.isnan(pairs.p).all()
    seen = agreement(pairs, values.mean(axis=1), pd.Series({"a": 1.0, "b": 2.0, "c": 3.0}))
    assert seen is not None
    assert (seen.tau, seen.low, seen.high) == (1.0, -1.0, 1.0)


def test_equal_variances_are_pulled_together_and_unequal_ones_left(
    rng: np.random.Generator,
) -> None:
    equal = 0.25 * rng.chisquare(2, 200) / 2
    pulled = moderate(equal, 2, most=60)
    assert pulled.variances.std() < 0.3 * equal.std()
    unequal = equal * np.exp(rng.normal(0, 3, 200))
    left = moderate(unequal, 2, most=60)
    assert left.df.max() < 4
    assert (left.variances > 0).all()


def test_identical_cells_do_not_hide_the_others(rng: np.random.Generator) -> None:
    variances = np.concatenate([0.25 * rng.chisquare(2, 100) / 2, np.zeros(50)])
    with_twins, without = moderate(variances, 2, 30), moderate(variances[:100], 2, 30)
    np.testing.assert_allclose(with_twins.variances[:100], without.variances)


def test_an_equal_cell_is_found_noisy_as_often_as_the_level_says(
    rng: np.random.Generator,
) -> None:
    drawn = [noisier_cells(rng.normal(0, 1, (16, 3)) + rng.normal(0, 9, 3)) for _ in range(400)]
    assert np.mean(drawn) == pytest.approx(0.05, abs=0.012)


def test_a_pair_with_a_noisy_cell_keeps_its_own_variance(rng: np.random.Generator) -> None:
    table = rng.normal(0, 0.2, (8, 4))
    table[0] = [6.0, -5.0, 4.0, -6.0]
    assert noisier_cells(table).tolist() == [True] + [False] * 7
    first, second = np.triu_indices(8, 1)
    _, _, sd, df = pair_spreads(table, first, second)
    own = (table[first] - table[second]).std(axis=1, ddof=1)
    noisy = first == 0
    np.testing.assert_allclose(sd[noisy], own[noisy])
    assert (df[noisy] == 3).all()
    assert (df[~noisy] > 3).all()


def test_two_cells_or_one_seed_show_no_noisy_cell(rng: np.random.Generator) -> None:
    assert not noisier_cells(rng.normal(0, 1, (2, 5))).any()
    assert not noisier_cells(rng.normal(0, 1, (9, 1))).any()


def test_looking_again_and_again_finds_what_is_not_there(rng: np.random.Generator) -> None:
    one_pair, any_pair = looked(0.05, 60, rng)
    assert 0.05 < one_pair < 0.5
    assert any_pair < 0.3


@pytest.mark.slow
def test_the_interval_over_groups_covers_where_that_over_images_does_not(
    rng: np.random.Generator,
) -> None:
    grouped, _, by_image = GroupedImages(rng).covered(8, 150, rng)
    assert grouped == pytest.approx(0.95, abs=3 * simulation_error(0.95, 150))
    assert grouped >= by_image


@pytest.mark.slow
def test_the_image_bootstrap_covers_a_difference(rng: np.random.Generator) -> None:
    _, difference = images(300, 0.02, 200, rng)
    assert difference == pytest.approx(0.95, abs=3 * simulation_error(0.95, 200))
