"""How many trials does it take to show a difference of 1 AP, with and without pairing by seed?

    python -m benchmarks.cost_per_conclusion reports/published/gamma_alpha/trials.csv FILE

The finished trials of a sweep are the model: AP of a cell and seed = cell + seed's shift (shared by
all cells) + a residual. Sweeps of n seeds are drawn by resampling the residuals and the shifts, one
cell is shifted by the difference, and both tests are made. The smallest n that finds the difference
in 80 % of the sweeps is the true answer. The report's estimate, from two or three seeds of such a
sweep, is compared with it.
"""

import datetime
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from ablations.analysis.comparisons import paired_sd
from ablations.analysis.seeds import seeds_needed

DIFFERENCE = 1.0  # AP
WANTED, ALPHA = 0.8, 0.05
REPETITIONS = 4000
ESTIMATES = 2000
MOST = 400  # seeds looked at

Array = NDArray[np.float64]


class World:
    """Residuals and seeds' shifts of the finished trials.

    Args:
        ap: [cells, seeds], all finished.
    """

    def __init__(self, ap: Array) -> None:
        cells, seeds = ap.shape
        shift = ap.mean(0) - ap.mean()
        residual = ap - ap.mean(1, keepdims=True) - shift
        # Fitting means took degrees of freedom away; the spread is what it was without.
        self.residuals = (residual * np.sqrt(cells * seeds / ((cells - 1) * (seeds - 1)))).ravel()
        self.residual_sd = float(self.residuals.std())
        between = shift.var(ddof=1) - self.residual_sd**2 / cells
        self.shift_sd = float(np.sqrt(max(between, 0.0)))
        self.cells = cells

    @property
    def paired_sd(self) -> float:
        """Of one seed's paired difference of two cells."""
        return float(np.sqrt(2) * self.residual_sd)

    def draw(self, repetitions: int, cells: int, seeds: int, rng: np.random.Generator) -> Array:
        """AP, but for the cells' means: [repetitions, cells, seeds]."""
        residuals = rng.choice(self.residuals, (repetitions, cells, seeds))
        return residuals + rng.normal(0, self.shift_sd, (repetitions, 1, seeds))


def found(world: World, seeds: int, paired: bool, rng: np.random.Generator) -> float:
    """Share of drawn sweeps of ``seeds`` seeds in which the difference is significant.

    Unpaired, the two cells have seeds of their own, as separately run experiments do.
    """
    first = world.draw(REPETITIONS, 2, seeds, rng)
    one, other = first[:, 0], first[:, 1]
    if not paired:
        other = world.draw(REPETITIONS, 1, seeds, rng)[:, 0]
    test = stats.ttest_rel if paired else stats.ttest_ind
    options = {} if paired else {"equal_var": False}
    return float((test(one + DIFFERENCE, other, axis=1, **options).pvalue < ALPHA).mean())


def true_seeds(world: World, paired: bool, rng: np.random.Generator) -> float:
    """Fewest seeds that find the difference often enough; NaN beyond ``MOST``."""
    low, high = 2, MOST
    if found(world, high, paired, rng) < WANTED:
        return float("nan")
    while low < high:
        middle = (low + high) // 2
        if found(world, middle, paired, rng) >= WANTED:
            high = middle
        else:
            low = middle + 1
    return high


def estimates(world: World, seeds: int, rng: np.random.Generator) -> Array:
    """What the report would say, from each of many drawn sweeps of all cells: seeds needed."""
    ap = world.draw(ESTIMATES, world.cells, seeds, rng)
    return seeds_needed(DIFFERENCE, paired_sd(ap))


def page(source: Path) -> str:
    """The whole page."""
    trials = pd.read_csv(source)
    ap = trials.pivot_table(index="label", columns="seed", values="AP").dropna().to_numpy()
    world, rng = World(ap), np.random.default_rng(0)
    paired, unpaired = (true_seeds(world, which, rng) for which in (True, False))
    cost = trials["device_s"].median() / 3600
    rows = []
    for seeds in (2, 3, 5):
        low, middle, high = np.nanpercentile(estimates(world, seeds, rng), [5, 50, 95])
        rows.append(f"| {seeds} | {middle:.0f} | {low:.0f} to {high:.0f} |")
    formula = float(seeds_needed(DIFFERENCE, world.paired_sd))

    def line(name: str, seeds: float) -> str:
        if not np.isfinite(seeds):
            return f"| {name} | more than {MOST} | more than {2 * MOST} | |"
        return f"| {name} | {seeds:.0f} | {2 * seeds:.0f} | {2 * seeds * cost:.2f} |"

    return "\n".join(
        [
            "# What a conclusion costs",
            "",
            f"`python -m benchmarks.cost_per_conclusion {source} FILE`, "
            f"{datetime.date.today().isoformat()}. From {ap.size} finished trials of the embedded "
            f"data ({ap.shape[0]} cells, {ap.shape[1]} seeds): the residual of a trial has a "
            f"standard deviation of {world.residual_sd:.2f} AP, the shift that a seed gives to all "
            f"cells one of {world.shift_sd:.2f}.",
            "",
            _in_short(world, paired, cost),
            "",
            f"## Trials to show a difference of {DIFFERENCE:g} AP between two cells",
            "",
            f"At the 5 % level with 80 % power, by simulation ({REPETITIONS:,} sweeps for each "
            "number of seeds, resampled residuals). Validation images are taken as given.",
            "",
            "| | seeds | trials | device-hours |",
            "| --- | ---: | ---: | ---: |",
            line("paired by seed", paired),
            line("unpaired (Welch)", unpaired),
            "",
            f"Pairing saves what the seeds' shift adds: a variance of {world.shift_sd**2:.2f} "
            f"beside the residual's {world.residual_sd**2:.2f}.",
            "",
            "## The report's estimate against that truth",
            "",
            f"*Seeds needed* as the report would give it, from {ESTIMATES:,} drawn sweeps of "
            f"{world.cells} cells; the truth is {paired:.0f}, the formula with the true spread "
            f"gives {formula:.0f}.",
            "",
            "| seeds in the sweep | median estimate | 90 % of the estimates |",
            "| ---: | ---: | ---: |",
            *rows,
            "",
        ]
    )


def _in_short(world: World, seeds: float, device_hours: float) -> str:
    """The three figures that a setting is judged by; ``device_hours`` are those of one trial."""
    trials = f"{2 * seeds:.0f} trials" if np.isfinite(seeds) else f"more than {2 * MOST} trials"
    cost = f", {2 * seeds * device_hours:.2f} device-hours" if np.isfinite(seeds) else ""
    return (
        f"**Paired standard deviation over all {world.cells} cells {world.paired_sd:.2f} AP; "
        f"{DIFFERENCE:g} AP between two cells takes {trials}{cost}.**"
    )


def main() -> None:
    """Run the command."""
    source, target = map(Path, sys.argv[1:])
    target.write_text(page(source))
    print(target.read_text())


if __name__ == "__main__":
    main()
