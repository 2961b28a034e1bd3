"""How often do the intervals cover the truth? Simulations for n = 2, 3, 5, 10 seeds.

``python -m benchmarks.interval_coverage FILE`` writes the tables into a markdown file.

The simulated sweep: AP of a cell and seed = cell + seed's shift (shared by all cells) + noise.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ablations.analysis.agreement import agreement
from ablations.analysis.comparisons import ALPHA, all_pairs
from ablations.analysis.image_bootstrap import RESAMPLES
from ablations.analysis.matching import Matches, match
from ablations.analysis.paper import gamma_alpha_cells
from ablations.analysis.resampling import image_weights, resampled_ap
from ablations.analysis.seeds import half_width, p_value, power
from tests.helpers.fabricated import random_predictions, random_truth

SEEDS = (2, 3, 5, 10)
NOISE, SHIFT = 0.4, 0.6
RATIOS = (0.0, 0.5, 1.0, 2.0)
IMAGE_RESAMPLES = 200
POPULATION = 6000
CELLS = np.arange(16)
NOISES = {
    "equal": np.full(16, NOISE),
    "a quarter x 3": np.where(CELLS % 4 == 0, 3 * NOISE, NOISE),
    "one x 5": np.where(CELLS == 0, 5 * NOISE, NOISE),
}
Generator = np.random.Generator


def simulation_error(rate: float, repetitions: int) -> float:
    """Standard error of a rate estimated from that many repetitions."""
    return float(np.sqrt(rate * (1 - rate) / repetitions))


def one_cell(n: int, repetitions: int, rng: Generator) -> float:
    """Coverage of the t interval of one cell's mean over n seeds."""
    values = rng.normal(0, np.hypot(NOISE, SHIFT), (repetitions, n))
    half = half_width(values.std(axis=1, ddof=1), n)
    return float((abs(values.mean(axis=1)) <= half).mean())


def paired(n: int, repetitions: int, rng: Generator) -> float:
    """Coverage of the paired t interval; the seeds' shift must cancel."""
    shift = rng.normal(0, SHIFT, (repetitions, n))
    one = shift + rng.normal(0, NOISE, (repetitions, n))
    other = shift + rng.normal(0, NOISE, (repetitions, n))
    difference = one - other
    half = half_width(difference.std(axis=1, ddof=1), n)
    return float((abs(difference.mean(axis=1)) <= half).mean())


def combined(n: int, ratio: float, repetitions: int, rng: Generator) -> float:
    """Coverage of the combined interval, images' standard deviation ``ratio`` x that of the mean
    over seeds, itself estimated from RESAMPLES resamples."""
    seed_sd = NOISE * np.sqrt(2)
    image_sd = ratio * seed_sd / np.sqrt(n)
    values = rng.normal(0, seed_sd, (repetitions, n))
    mean = values.mean(axis=1) + rng.normal(0, image_sd, repetitions)
    estimated = image_sd * np.sqrt(rng.chisquare(RESAMPLES - 1, repetitions) / (RESAMPLES - 1))
    half = half_width(values.std(axis=1, ddof=1), n, estimated)
    return float((abs(mean) <= half).mean())


def found(n: int, difference: float, repetitions: int, rng: Generator) -> tuple[float, float]:
    """How often a planted difference is found by the paired and by the unpaired (Welch) test."""
    shift = rng.normal(0, SHIFT, (repetitions, n))
    one = difference + shift + rng.normal(0, NOISE, (repetitions, n))
    other = shift + rng.normal(0, NOISE, (repetitions, n))
    gap = one - other
    mean = gap.mean(axis=1)
    with_pairs = p_value(mean, gap.std(axis=1, ddof=1), n) <= ALPHA
    a, b = one.var(axis=1, ddof=1) / n, other.var(axis=1, ddof=1) / n
    df = (a + b) ** 2 * (n - 1) / (a**2 + b**2)
    without = p_value(mean, np.sqrt(a + b), 1, df=df) <= ALPHA
    return float(with_pairs.mean()), float(without.mean())


def _sweep(
    means: NDArray[np.float64], noise: NDArray[np.float64], n: int, rng: Generator
) -> pd.DataFrame:
    shift = rng.normal(0, SHIFT, n)
    values = means[:, None] + shift + rng.normal(0, 1, (len(means), n)) * noise[:, None]
    return pd.DataFrame(values, index=[f"cell {i}" for i in range(len(means))], columns=range(n))


def marked(
    n: int, gap: float, noise: NDArray[np.float64], repetitions: int, rng: Generator
) -> tuple[float, float]:
    """Of cells with the given ``noise`` (standard deviations, [cells]), all equal but the first,
    which is ``gap`` AP better: how often any two *equal* cells are told apart, and what share of
    the true differences is found."""
    means = np.zeros(len(noise))
    means[0] = gap
    false, power_sum = 0, 0.0
    for _ in range(repetitions):
        pairs = all_pairs(_sweep(means, noise, n, rng))
        apart = pairs.p <= ALPHA
        equal = means[pairs.first] == means[pairs.second]
        false += bool(apart[equal].any())
        power_sum += float(apart[~equal].mean()) if gap else 0.0
    return false / repetitions, power_sum / repetitions


def rank_agreement(n: int, repetitions: int, rng: Generator) -> float:
    """Coverage of the interval of Kendall's tau with the paper, when the truth is the paper's own
    gamma x alpha cells, two of them swapped."""
    cells = gamma_alpha_cells()
    cells = cells[cells["AP"] > 25]
    labels = [f"gamma={row.gamma:g} alpha={row.alpha:g}" for row in cells.itertuples()]
    published = pd.Series(cells["AP"].to_numpy(dtype=np.float64), index=labels)
    truth = published.to_numpy().copy()
    truth[[1, 4]] = truth[[4, 1]]
    noise = np.full(len(truth), NOISE)
    exact = agreement(all_pairs(_exact(truth, labels)), pd.Series(truth, index=labels), published)
    covered = 0
    for _ in range(repetitions):
        values = _sweep(truth, noise, n, rng).set_axis(labels, axis=0)
        seen = agreement(all_pairs(values), values.mean(axis=1), published)
        if seen is not None and exact is not None:
            covered += seen.low - 1e-9 <= exact.tau <= seen.high + 1e-9
    return covered / repetitions


def _exact(truth: NDArray[np.float64], labels: list[str]) -> pd.DataFrame:
    return pd.DataFrame(np.repeat(truth[:, None], 3, axis=1), index=labels)


def images(
    count: int, extra_jitter: float, repetitions: int, rng: Generator
) -> tuple[float, float]:
    """Coverage of the image bootstrap's interval for one AP and for a difference of two.

    ``count`` of a population of synthetic images are the validation set; the truth is AP on the
    population. The second detector's boxes have ``extra_jitter``.
    """
    truth = random_truth(rng, POPULATION, 3)
    ids, classes = range(1, POPULATION + 1), (1, 2, 3)
    both = [
        match(truth["annotations"], random_predictions(rng, truth, jitter), ids, classes)
        for jitter in (0.08, 0.08 + extra_jitter)
    ]
    everything = np.ones((1, POPULATION), dtype=np.int32)
    first, second = (ap_of(matches, everything)[0] for matches in both)
    hits = np.zeros(2)
    for _ in range(repetitions):
        chosen = np.sort(rng.choice(POPULATION, count, replace=False))
        plain = np.ones((1, count), dtype=np.int32)
        weights = np.concatenate([plain, image_weights(count, IMAGE_RESAMPLES, rng)])
        one, other = (ap_of(subset(matches, chosen), weights) for matches in both)
        for i, (values, target) in enumerate(((one, first), (one - other, first - second))):
            half = half_width(0.0, 2, values[1:].std(ddof=1))
            hits[i] += abs(values[0] - target) <= half
    return float(hits[0] / repetitions), float(hits[1] / repetitions)


def subset(matches: Matches, chosen: NDArray[np.int64]) -> Matches:
    """The matches of some images only (ascending indices)."""
    kept = np.isin(matches.image, chosen)
    before = np.concatenate([[0], np.cumsum(kept)])
    return Matches(
        matches.image_ids[chosen],
        matches.category_ids,
        before[matches.start],
        np.searchsorted(chosen, matches.image[kept]),
        matches.in_range[:, kept],
        matches.matched[:, :, kept],
        matches.true[:, :, kept],
        matches.objects[:, :, chosen],
    )


def ap_of(matches: Matches, weights: NDArray[np.int32]) -> NDArray[np.float64]:
    """AP in percent under each row of ``weights``."""
    ap = resampled_ap(matches, weights, areas=1)[0]
    return 100 * np.nanmean(ap.reshape(-1, len(weights)), axis=0)


def table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---:"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def percent(rate: float) -> str:
    return f"{100 * rate:.1f}"


def write(path: Path) -> None:
    """All tables; some minutes on one core."""
    rng = np.random.default_rng(20)
    many, some, few = 20_000, 1000, 300
    intervals = [
        [
            str(n),
            percent(one_cell(n, many, rng)),
            percent(paired(n, many, rng)),
            *(percent(combined(n, ratio, many, rng)) for ratio in RATIOS),
            percent(rank_agreement(n, few, rng)),
        ]
        for n in SEEDS
    ]
    tests = []
    for n in SEEDS:
        with_pairs, without = found(n, 1.0, many, rng)
        tests.append(
            [
                str(n),
                percent(with_pairs),
                percent(power(1.0, NOISE * np.sqrt(2), n)),
                percent(without),
                percent(found(n, 0.0, many, rng)[0]),
            ]
        )
    marks = []
    for n in SEEDS:
        rates = [percent(marked(n, 0.0, noise, some, rng)[0]) for noise in NOISES.values()]
        marks.append([str(n), *rates, percent(marked(n, 2.0, NOISES["equal"], few, rng)[1])])
    sets = [[str(count), *map(percent, images(count, 0.02, few, rng))] for count in (100, 300)]
    parts = [
        "# Do the intervals keep their word?",
        "Written by `python -m benchmarks.interval_coverage`. Simulated AP of a cell and "
        f"seed = cell + seed's shift (sd {SHIFT} AP, shared by all cells) + noise (sd {NOISE} "
        "AP). All entries are percent.",
        "## Coverage of 95 % intervals",
        f"{many:,} repetitions (simulation error {100 * simulation_error(0.95, many):.2f}), "
        f"{few} for the rank correlation ({100 * simulation_error(0.95, few):.1f}). *Combined*: "
        "seeds and images, by the ratio of the images' standard deviation to that of the mean over "
        "seeds. Rank correlation: a truth that is the paper's order with two cells swapped; its "
        "interval leaves undecided pairs open and is wide on purpose.",
        table(
            ["seeds", "one cell", "paired difference"]
            + [f"combined, ratio {ratio:g}" for ratio in RATIOS]
            + ["Kendall's tau"],
            intervals,
        ),
        "## A difference of 1 AP: found, and not invented",
        f"Share of {many:,} simulated comparisons that are significant at 5 %.",
        table(
            ["seeds", "paired", "paired, by formula", "unpaired (Welch)", "paired, no difference"],
            tests,
        ),
        "## Sixteen cells, all pairs, Holm's correction, moderated variances",
        f"How often any two of sixteen *equal* cells are told apart ({some} repetitions, "
        f"simulation error {100 * simulation_error(0.05, some):.1f}; at most 5 is promised), for "
        "cells of equal noise, a quarter of them three times as noisy, one of them five times; and "
        "the share of true differences of 2 AP that is found.",
        table(["seeds", *NOISES, "2 AP found"], marks),
        "## Image bootstrap",
        f"Synthetic detections, {few} validation sets drawn from {POPULATION:,} (simulation error "
        f"{100 * simulation_error(0.95, few):.1f}), {IMAGE_RESAMPLES} resamples each, normal "
        "interval with the bootstrap's standard deviation. AP of few images is biased upwards, "
        "which the interval of a single AP does not correct: the report gives none. In a "
        "difference most of the bias cancels.",
        table(["images", "one AP", "difference of two APs"], sets),
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
