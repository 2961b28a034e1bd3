"""How often do the intervals cover the truth? Simulations for n = 2, 3, 5, 10 seeds.

``python -m benchmarks.interval_coverage FILE`` writes the tables into a markdown file.

The simulated sweep: AP of a cell and seed = cell + seed's shift (shared by all cells) + noise.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from ablations.analysis.agreement import agreement
from ablations.analysis.comparisons import ALPHA, all_pairs, pair_spreads
from ablations.analysis.image_bootstrap import FEWEST_GROUPS, RESAMPLES, Resamples
from ablations.analysis.image_groups import ImageGroups
from ablations.analysis.matching import Matches, match
from ablations.analysis.paper import gamma_alpha_cells
from ablations.analysis.resampling import group_weights, image_weights, resampled_ap
from ablations.analysis.seeds import half_width, holm, p_value, power
from ablations.analysis.variances import NOISIER
from tests.helpers.fabricated import random_predictions, random_truth

SEEDS = (2, 3, 5, 10)
LOOKS = tuple(range(3, 13))  # seeds at each look
NOISE, SHIFT = 0.4, 0.6
RATIOS = (0.0, 0.5, 1.0, 2.0)
IMAGE_RESAMPLES = 200
POPULATION = 6000
GROUPS, IMAGES_A_GROUP, GROUP_RESAMPLES = 400, 25, 120
GROUP_COUNTS = (4, 6, 8, 10, 15, 20)
CELLS = np.arange(16)
NOISES = {
    "equal": np.full(16, NOISE),
    "a quarter x 3": np.where(CELLS % 4 == 0, 3 * NOISE, NOISE),
    "one x 3": np.where(CELLS == 0, 3 * NOISE, NOISE),
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
    first, second = np.triu_indices(len(noise), 1)
    equal = means[first] == means[second]
    sweeps = (_sweep(means, noise, n, rng).to_numpy() for _ in range(repetitions))
    apart = np.stack([_apart(sweep, first, second) for sweep in sweeps])
    share = float(apart[:, ~equal].mean()) if gap else 0.0
    return float(apart[:, equal].any(axis=1).mean()), share


def _apart(
    sweep: NDArray[np.float64],
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    alpha: float = ALPHA,
) -> NDArray[np.bool_]:
    """The verdicts of ``all_pairs`` on the pairs of a sweep's cells: without images its p value is
    that of a t test, without a search."""
    difference, seeds, sd, df = pair_spreads(sweep, first, second)
    return holm(2 * stats.t.sf(abs(difference) / sd * np.sqrt(seeds), df)) <= alpha


def looked(alpha: float, repetitions: int, rng: Generator) -> tuple[float, float]:
    """How often sixteen equal cells show a difference at any of the ``LOOKS``, each at ``alpha``:
    between the first two by the paired t test, and between any two by ``all_pairs``."""
    first, second = np.triu_indices(len(CELLS), 1)
    one_pair = any_pair = 0
    for _ in range(repetitions):
        sweep = _sweep(np.zeros(len(CELLS)), NOISES["equal"], max(LOOKS), rng).to_numpy()
        gaps = [sweep[0, :n] - sweep[1, :n] for n in LOOKS]
        t = [abs(gap.mean()) / gap.std(ddof=1) * np.sqrt(len(gap)) for gap in gaps]
        one_pair += bool((2 * stats.t.sf(t, np.array(LOOKS) - 1) <= alpha).any())
        any_pair += any(_apart(sweep[:, :n], first, second, alpha).any() for n in LOOKS)
    return one_pair / repetitions, any_pair / repetitions


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


class GroupedImages:
    """A population of groups of images and two detectors on it.

    Groups differ as photographs do (APs of four were 56, 46, 58 and 21): a detector's jitter and
    false detections are the group's; what the second one adds to them differs by group, too.
    """

    def __init__(self, rng: Generator) -> None:
        self.group = np.repeat(np.arange(GROUPS), IMAGES_A_GROUP)
        images = len(self.group)
        truth = random_truth(rng, images, 1, mean_boxes=1.5)
        level = 0.06 * np.exp(rng.normal(0, 0.5, GROUPS))
        other = level * 1.1 * np.exp(rng.normal(0, 0.08, GROUPS))
        self.detectors = [
            match(
                truth["annotations"],
                _grouped_predictions(rng, truth, jitter[self.group]),
                range(1, images + 1),
                (1,),
            )
            for jitter in (level, other)
        ]
        everything = np.ones((1, images), dtype=np.int32)
        first, second = (ap_of(matches, everything)[0] for matches in self.detectors)
        self.truth = first - second

    def ap_by_group(self, detector: int, groups: int) -> NDArray[np.float64]:
        """AP of the first ``groups``, one by one."""
        chosen = np.flatnonzero(self.group < groups)
        own = self.group[chosen] == np.arange(groups)[:, None]
        return ap_of(subset(self.detectors[detector], chosen), own.astype(np.int32))

    def covered(self, count: int, repetitions: int, rng: Generator) -> tuple[float, float, float]:
        """Coverage of three intervals of the difference, from ``count`` groups: the report's over
        groups; over groups with a normal quantile; over images, as if they were independent."""
        hits = np.zeros(3)
        for _ in range(repetitions):
            groups = rng.choice(GROUPS, count, replace=False)
            chosen = np.flatnonzero(np.isin(self.group, groups))
            numbers = np.repeat(np.arange(count), IMAGES_A_GROUP)
            weights = [
                np.ones((1, len(chosen)), dtype=np.int32),
                group_weights(numbers, GROUP_RESAMPLES, rng),
                image_weights(len(chosen), GROUP_RESAMPLES, rng),
            ]
            one, other = (
                ap_of(subset(matches, chosen), np.concatenate(weights))
                for matches in self.detectors
            )
            plain, by_group, by_image = np.split(one - other, (1, 1 + GROUP_RESAMPLES))
            as_reported = Resamples({}, ImageGroups("group", count, len(chosen)))
            halves = (
                half_width(0.0, 2, as_reported.sd(by_group), image_df=as_reported.df),
                half_width(0.0, 2, by_group.std(ddof=1)),
                half_width(0.0, 2, by_image.std(ddof=1)),
            )
            hits += [abs(plain[0] - self.truth) <= half for half in halves]
        first, second, third = (hits / repetitions).tolist()
        return first, second, third


def _grouped_predictions(
    rng: Generator, truth: dict[str, Any], jitter: NDArray[np.float64]
) -> dict[str, NDArray[Any]]:
    """Jittered truth and false alarms, both by each image's ``jitter``, [images]."""
    rows = [
        (found["image_id"], found["bbox"], rng.beta(4, 2))
        for found in truth["annotations"]
        if rng.random() < 0.85
    ]
    image = np.array([row[0] for row in rows])
    box = np.array([row[1] for row in rows])
    box = box + rng.normal(0, 1, box.shape) * jitter[image - 1, None] * np.tile(box[:, 2:], 2)
    false = np.repeat(np.arange(len(jitter)), rng.poisson(10 * jitter))
    corner = rng.uniform(0, 300, (len(false), 2))
    size = np.exp(rng.uniform(2.3, 5.5, (len(false), 2)))
    boxes = np.concatenate([box, np.hstack([corner, size])])
    boxes[:, 2:] = np.maximum(boxes[:, 2:], 1.0)
    images_of = np.concatenate([image, false + 1])
    scores = np.concatenate([[row[2] for row in rows], rng.beta(1.5, 4, len(false))])
    return {
        "image_id": images_of,
        "category_id": np.ones(len(images_of), dtype=np.int64),
        "bbox": boxes.astype(np.float32),
        "score": scores.astype(np.float32),
    }


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


def grouped_images(repetitions: int, rng: Generator) -> list[str]:
    """The section on groups of images."""
    world = GroupedImages(rng)
    shown = 60
    one, other = (world.ap_by_group(detector, shown) for detector in (0, 1))
    rows = [
        [str(count), *map(percent, world.covered(count, repetitions, rng))]
        for count in GROUP_COUNTS
    ]
    return [
        "## Groups of images",
        f"Coverage of a difference of two APs, {repetitions} validation sets (simulation error "
        f"{100 * simulation_error(0.95, repetitions):.1f}) of so many of {GROUPS} groups of "
        f"{IMAGES_A_GROUP} images, {GROUP_RESAMPLES} resamples each. AP of a single group has a "
        f"standard deviation of {one.std(ddof=1):.0f} over groups, the two detectors' correlate by "
        f"{np.corrcoef(one, other)[0, 1]:.2f}, and their difference has one of "
        f"{(one - other).std(ddof=1):.1f} AP. The report's interval draws groups and takes "
        "Student's t with groups - 1 degrees of freedom. Its coverage sets no limit here; that the "
        f"report gives it from {FEWEST_GROUPS} groups on is a convention about its width.",
        table(["groups", "the report's", "normal quantile", "images, groups ignored"], rows),
    ]


def looks_again(repetitions: int, rng: Generator) -> list[str]:
    """The section on looking again and again."""
    rows = []
    for name, alpha in (("5 %", ALPHA), (f"5 % / {len(LOOKS)}", ALPHA / len(LOOKS))):
        rates = looked(alpha, repetitions, rng)
        bound = min(1.0, alpha * len(LOOKS))
        rows.append([name, *map(percent, rates), percent(bound)])
    return [
        "## Looking again after every seed",
        f"How often a difference is found at any of {len(LOOKS)} looks, after {LOOKS[0]}, "
        f"{LOOKS[1]}, ... {LOOKS[-1]} seeds, between sixteen *equal* cells ({repetitions} "
        f"repetitions, simulation error {100 * simulation_error(0.15, repetitions):.1f}): by the "
        "paired t test of two cells, and by the verdicts on all pairs; and the most that it can be "
        "for whatever test keeps its level (Boole's inequality), which the report states when "
        "seeds were added in several goes.",
        table(["each look at", "two cells, paired t", "all pairs, Holm", "bound"], rows),
    ]


def write(path: Path) -> None:
    """All tables; some minutes on one core."""
    rng = np.random.default_rng(20)
    many, some, few = 20_000, 600, 200
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
        "cells of equal noise, a quarter of them three times as noisy, one of them three or five "
        "times; and the share of true differences of 2 AP that is found. A pair with a cell that "
        f"an F test at {100 * NOISIER:g} % finds noisier than the rest keeps its own variance.",
        table(["seeds", *NOISES, "2 AP found"], marks),
        "## Image bootstrap",
        f"Synthetic detections, {few} validation sets drawn from {POPULATION:,} (simulation error "
        f"{100 * simulation_error(0.95, few):.1f}), {IMAGE_RESAMPLES} resamples each, normal "
        "interval with the bootstrap's standard deviation. AP of few images is biased upwards, "
        "which the interval of a single AP does not correct: the report gives none. In a "
        "difference most of the bias cancels.",
        table(["images", "one AP", "difference of two APs"], sets),
        *grouped_images(few, rng),
        *looks_again(some, rng),
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
