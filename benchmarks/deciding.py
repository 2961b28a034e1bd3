"""Sequential designs against fixed ones: error rates, power and trials, by simulation and replay.

    python -m benchmarks.deciding FILE

Simulated: AP of a cell and seed = cell + seed's shift (shared by all cells) + noise, at COCO's
noise. Replayed: the committed sweeps' own trials, seed by seed.
"""

import datetime
import functools
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ablations.analysis.deciding import ALPHA, QUESTIONS, WITHIN, Look, Progress, looks, run
from ablations.analysis.decisions import decide, design
from ablations.analysis.paper import TABLE_1B, gamma_alpha_cells
from benchmarks.cost_per_conclusion import World

CELLS, MOST, MARGIN = 16, 10, 0.5
NOISE, SHIFT = 0.25, 0.5  # AP of one trial, of a whole seed
SWEEPS, FIXED_SWEEPS = 1000, 250
FIXED = range(2, 21)
FEWEST_RIGHT = 0.2  # right verdicts below which trials are not compared
PUBLISHED = Path("reports/published")
BASELINE = 0

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Truth:
    """Cells' ``means``, the baseline first, and the ``noise`` of a trial of each, [cells]."""

    name: str
    means: Array
    noise: Array

    def draw(self, sweeps: int, seeds: int, rng: np.random.Generator) -> Array:
        """AP [sweeps, cells, seeds]."""
        shift = rng.normal(0, SHIFT, (sweeps, 1, seeds))
        noise = rng.normal(size=(sweeps, len(self.means), seeds)) * self.noise[:, None]
        return self.means[:, None] + shift + noise


@dataclass(frozen=True)
class Outcome:
    """Of simulated sweeps: share with any wrong verdict, share of cells with the right one, mean
    number of trials."""

    wrong: float
    right: float
    trials: float


def paper_shape() -> Array:
    """The paper's thirteen gamma x alpha cells on COCO, three of them twice; CE comes first."""
    printed = gamma_alpha_cells()["AP"].to_numpy(dtype=np.float64)
    baseline = float(TABLE_1B.rows[0][2])  # gamma 0 with its best alpha
    others = np.delete(printed, int(np.flatnonzero(printed == baseline)[0]))
    return np.concatenate([[baseline], others, [31.4, 31.9, 32.2]])


def published(name: str) -> pd.DataFrame:
    """AP of a committed sweep's finished cells: one row a cell, one column a seed."""
    trials = pd.read_csv(PUBLISHED / name / "trials.csv")
    table = trials.pivot_table(index="label", columns="seed", values="AP", sort=False)
    return table.dropna()


def truths() -> list[Truth]:
    """The simulated worlds."""
    index = np.arange(CELLS)
    zero, even = np.zeros(CELLS), np.full(CELLS, NOISE)
    quarter = np.where(index % 4 == 0, 3 * NOISE, NOISE)
    embedded = published("gamma_alpha")
    ap = embedded.to_numpy()
    first = embedded.index.get_loc("CE")
    means = np.concatenate([[ap.mean(1)[first]], np.delete(ap.mean(1), first)])
    return [
        Truth("the paper's cells", paper_shape(), even),
        Truth("the embedded report's", means, np.full(len(ap), World(ap).residual_sd)),
        Truth("all equal", zero, even),
        Truth("one better by 0.5", np.where(index == 5, 0.5, 0.0), even),
        Truth("one better by 1", np.where(index == 5, 1.0, 0.0), even),
        Truth("half worse by 0.5", np.where(index < 8, 0.0, -0.5), even),
        Truth("half worse by 1", np.where(index < 8, 0.0, -1.0), even),
        Truth("all but the baseline better by 0.5", np.where(index == 0, 0.0, 0.5), even),
        Truth("the same, half the noise", np.where(index == 0, 0.0, 0.5), even / 2),
        Truth("all equal, baseline's noise x 3", zero, np.where(index == 0, 3 * NOISE, NOISE)),
        Truth("all equal, a quarter's noise x 3", zero, quarter),
        Truth("half worse by 0.5, the same noise", np.where(index < 8, 0.0, -0.5), quarter),
    ]


def score(question: str, truth: Truth, ended: Progress) -> Outcome:
    """How the sweeps ended, against the truth."""
    delta = truth.means - (truth.means.max() if question == "best" else truth.means[BASELINE])
    inside = abs(delta) < MARGIN - 1e-9
    sign = np.sign(np.where(np.isfinite(ended.difference), ended.difference, 0.0))
    agrees = (sign == np.sign(delta)) & (delta != 0) if question == "baseline" else delta < 0
    wrong = (ended.apart & ~agrees) | (ended.within & ~inside)
    right = (ended.apart & agrees) | (ended.within & inside)
    asked = np.arange(len(delta)) != (delta.argmax() if question == "best" else BASELINE)
    trials = float(ended.have.sum(axis=1).mean())
    return Outcome(float(wrong.any(axis=1).mean()), float(right[:, asked].mean()), trials)


def fixed_trials(question: str, truth: Truth, right: float, rng: np.random.Generator) -> float:
    """Trials of the fixed design, the same tests made once, that gives as many right verdicts;
    between two numbers of seeds by interpolation; infinite beyond the last of ``FIXED``."""
    values = truth.draw(FIXED_SWEEPS, FIXED[-1], rng)

    @functools.cache
    def power(seeds: int) -> float:
        ended = run(question, [Look(seeds, ALPHA)], values[..., :seeds], MARGIN, BASELINE)
        return score(question, truth, ended).right

    low, high = FIXED[0], FIXED[-1]
    if power(high) < right:
        return float("inf")
    while high - low > 1:  # power(low) < right <= power(high)
        middle = (low + high) // 2
        low, high = (middle, high) if power(middle) < right else (low, middle)
    share = (right - power(low)) / max(power(high) - power(low), 1e-9)
    return len(truth.means) * (low + min(max(share, 0.0), 1.0))


def simulated(question: str, rng: np.random.Generator) -> list[str]:
    """One row a world."""
    rows = []
    for truth in truths():
        ended = run(question, looks(MOST), truth.draw(SWEEPS, MOST, rng), MARGIN, BASELINE)
        found = score(question, truth, ended)
        compared = ""
        if found.right >= FEWEST_RIGHT:
            fixed = fixed_trials(question, truth, found.right, rng)
            compared = f"{fixed:.0f} | {fixed / found.trials:.2f}"
        rows.append(
            f"| {truth.name} | {100 * found.wrong:.1f} | {100 * found.right:.1f} | "
            f"{found.trials:.0f} | {compared or '| '} |"
        )
    return rows


def replayed(name: str, question: str) -> str:
    """A committed sweep, as if its seeds had been run one after another."""
    table = published(name)
    labels = [str(label) for label in table.index]
    baseline = next((label for label in ("CE", "gamma=0 alpha=0.75") if label in labels), labels[0])
    seeds = [int(seed) for seed in table.columns]
    asked = design(question, MARGIN, len(seeds), labels, baseline, seeds)
    known = {(label, seed): float(table.loc[label, seed]) for label in labels for seed in seeds}
    found: dict[tuple[str, int], float | str | None] = {}
    while todo := decide(asked, found).todo:
        found |= {key: known[key] for key in todo}
    ended = decide(asked, found)
    counts: dict[str, int] = {}
    for cell in ended.cells:
        counts[cell.verdict] = counts.get(cell.verdict, 0) + 1
    verdicts = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    against = ended.reference if question == "best" else baseline
    return (
        f"| `{name}` | {question} | {against} | {len(found)} of {table.size} | "
        f"{' '.join(str(look.seeds) for look in ended.past)} | {verdicts} |"
    )


def page() -> str:
    """The whole page."""
    began, rng = time.process_time(), np.random.default_rng(0)
    header = (
        "| cells | any wrong verdict, % | right verdicts, % | trials | fixed design | ratio |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    )
    error = 100 * np.sqrt(ALPHA * (1 - ALPHA) / SWEEPS)
    tables = [
        line
        for question in QUESTIONS
        for line in (f"## *{question}*, simulated", "", *header, *simulated(question, rng), "")
    ]
    names = sorted(path.name for path in PUBLISHED.iterdir() if (path / "trials.csv").is_file())
    replays = [replayed(name, question) for name in names for question in QUESTIONS]
    levels = ", ".join(f"{look.seeds} seeds: {100 * look.level:.2f} %" for look in looks(MOST))
    return "\n".join(
        [
            "# Stopping when the question is answered",
            "",
            f"`python -m benchmarks.deciding FILE`, {datetime.date.today().isoformat()}, "
            f"{{seconds}} s on one core. The procedure is that of `sweep --decide`, explained in "
            "[docs/deciding.md](../../docs/deciding.md).",
            "",
            f"{CELLS} cells, a margin of {MARGIN} AP, at most {MOST} seeds, a trial's noise "
            f"{NOISE} AP (COCO's), {SWEEPS:,} sweeps a row (simulation error of 5 %: {error:.1f}). "
            f'Level spent at the looks: {levels}; for "within the margin" '
            + " and ".join(
                f"{100 * WITHIN[question]:.0f} % of it for *{question}*" for question in QUESTIONS
            )
            + ". *Any wrong verdict*: the share of sweeps with one wrong verdict or more, at any "
            "look, which is promised to be at most 5 %. *Right verdicts*: the share of cells (but "
            "the best, or the baseline) of which the truth was said. *Fixed design*: the trials "
            "that it takes to say as many right verdicts when every cell gets the same number of "
            "seeds and the same tests are made once, at the full level. *Ratio*: how many times "
            "fewer trials the sequential design takes. Where no question can be answered before "
            f"the last look (all equal), all {CELLS * MOST} trials are run, and the looks cost "
            "some power. Where less than "
            f"{100 * FEWEST_RIGHT:.0f} % of the verdicts are found, trials are not compared.",
            "",
            *tables,
            "## The committed sweeps, replayed",
            "",
            "As if their seeds had been run one after another, and the last one was the most. They "
            "have three or four seeds, so little can be saved; that the same cells are told apart "
            "with fewer trials is what to look for.",
            "",
            "| sweep | question | leader or baseline | trials | looks at seeds | verdicts |",
            "| --- | --- | --- | ---: | --- | --- |",
            *replays,
            "",
        ]
    ).replace("{seconds}", f"{time.process_time() - began:.0f}")


def main() -> None:
    """Run the command."""
    text = page()
    Path(sys.argv[1]).write_text(text)
    print(text)


if __name__ == "__main__":
    main()
