"""The state of a sequential sweep, derived from its design and its records alone.

The design (the question, the margin, the cells, the seeds in their order, the looks) is declared in
the manifest before the first trial. Everything else is computed anew each time: the looks that are
complete are repeated in their order, and what the next one lacks is what runs next.

A trial that diverged puts its cell out, with that reason. A failed trial is missing, not bad: its
cell goes on without that seed; a cell of which every trial so far has failed gets no more seeds,
until ``--retry-failed`` sets its trials aside.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from scipy import stats

from ablations.analysis.deciding import (
    ALPHA,
    FEWEST_SEEDS,
    QUESTIONS,
    WITHIN,
    Floats,
    Look,
    Progress,
    after_look,
    looks,
    run,
    start,
)
from ablations.analysis.spreads import cell_effects
from ablations.store.states import TrialState

MOST_NEEDED = 1000  # seeds to search for
DRAWS = 100  # simulated sweeps of an expected cost

OPEN, LEADER, BASELINE, NONE = "open", "leader", "baseline", "no value"
OUT, DIVERGED, WITHIN_MARGIN = "out", "diverged", "within the margin"
BETTER, WORSE = "better", "worse"

Outcomes = Mapping[tuple[str, int], float | str | None]
"""By cell and seed: AP in percent; "diverged"; ``None`` for a trial that failed, or whose AP is
undefined. A trial without a record is not in it."""


@dataclass(frozen=True)
class Design:
    """What is declared before the first trial; it is the manifest's ``decide``."""

    question: str
    margin: float  # AP
    cells: list[str]  # labels, in the grid's order
    baseline: str | None  # label; of the question "baseline"
    seeds: list[int]  # in the order in which they are run
    alpha: float
    looks: list[Look]

    def as_json(self) -> dict[str, Any]:
        """As the manifest keeps it."""
        return asdict(self)


@dataclass(frozen=True)
class CellDecision:
    """What is known of a cell; differences are from the leader or the baseline, in AP."""

    label: str
    verdict: str
    seeds: int  # with a value, of those it was given
    given: int  # seeds it was given
    since: int | None  # seeds at the look of the verdict
    p: float  # corrected for cells and looks
    difference: float
    low: float
    high: float


@dataclass(frozen=True)
class Decisions:
    """The state of a sequential sweep.

    ``todo`` are the trials (cell, seed) that the ``next_look`` still lacks; none if the sweep is
    over: every question has an answer (``answered``), the seeds are spent, or ``stopped`` says why
    there can be no answer. ``spent`` is the level used so far.
    """

    design: Design
    cells: list[CellDecision]
    past: list[Look]
    next_look: Look | None
    todo: list[tuple[str, int]]
    reference: str | None
    paired_sd: float
    stopped: str

    @property
    def spent(self) -> float:
        return sum(look.level for look in self.past)

    @property
    def open_cells(self) -> list[str]:
        return [cell.label for cell in self.cells if cell.verdict == OPEN]

    @property
    def answered(self) -> bool:
        return bool(self.past) and not self.open_cells and not self.stopped


def design(
    question: str,
    margin: float,
    max_seeds: int,
    cells: Sequence[str],
    baseline: str | None,
    seeds: Sequence[int] | None = None,
) -> Design:
    """A design over ``cells``.

    Raises:
        ValueError: a value is not valid, or the question cannot be asked of these cells.
    """
    if question not in QUESTIONS:
        raise ValueError(f"--decide is {question!r}; valid: {', '.join(QUESTIONS)}")
    if not np.isfinite(margin) or margin <= 0:
        raise ValueError(f"--margin is {margin:g}; it must be above 0, in AP")
    if max_seeds < FEWEST_SEEDS:
        raise ValueError(f"--max-seeds is {max_seeds}; it must be at least {FEWEST_SEEDS}")
    if seeds is not None and len(seeds) != max_seeds:
        raise ValueError(f"--seeds names {len(seeds)} seeds, --max-seeds is {max_seeds}")
    if len(cells) < 2:
        raise ValueError(f"--decide {question} compares cells; there is only {', '.join(cells)}")
    if question == "baseline" and baseline not in cells:
        which = "no baseline" if baseline is None else f"the baseline {baseline} is not among them"
        raise ValueError(
            f"--decide baseline needs a baseline: {which}; the cells are {', '.join(cells)}"
        )
    return Design(
        question=question,
        margin=float(margin),
        cells=list(cells),
        baseline=baseline if question == "baseline" else None,
        seeds=list(range(max_seeds) if seeds is None else seeds),
        alpha=ALPHA,
        looks=looks(max_seeds),
    )


def read_design(value: Mapping[str, Any]) -> Design:
    """The design that a manifest keeps.

    Raises:
        ValueError: it is no design.
    """
    try:
        found = Design(**{**value, "looks": [Look(**look) for look in value["looks"]]})
    except (KeyError, TypeError) as error:
        raise ValueError(f"the manifest's decide is no design: {error}") from error
    if found.question not in QUESTIONS:
        raise ValueError(f"the manifest's question is {found.question!r}")
    return found


def outcomes(states: Iterable[TrialState]) -> Outcomes:
    """The outcomes of trials; those without a record are left out."""
    found: dict[tuple[str, int], float | str | None] = {}
    for state in states:
        if state.record is not None:
            key = state.entry.label, state.entry.seed
            diverged = state.record.status == "diverged"
            ap = state.record.metrics.get("AP") if state.record.status == "finished" else None
            found[key] = DIVERGED if diverged else ap
    return found


def decide(asked: Design, found: Outcomes) -> Decisions:
    """The state of a sequential sweep with these outcomes."""
    return _walk(asked, found)[0]


def _walk(asked: Design, found: Outcomes) -> tuple[Decisions, Progress, Floats]:
    cells, baseline = asked.cells, _baseline_index(asked)
    values = _table(asked, found)
    progress = start(1, len(cells))
    past: list[Look] = []
    todo: list[tuple[str, int]] = []
    lost: dict[int, tuple[str, int]] = {}  # cell -> why it takes no part, and since which look
    for look in asked.looks:
        active = [int(cell) for cell in np.flatnonzero(progress.active[0])]
        todo = [
            (cells[cell], seed)
            for seed in asked.seeds[: look.seeds]
            for cell in active
            if (cells[cell], seed) not in found
        ]
        if todo or not active:
            break
        for cell in active:
            own = [found[cells[cell], seed] for seed in asked.seeds[: look.seeds]]
            if DIVERGED in own:
                lost[cell] = (DIVERGED, look.seeds)
            elif all(value is None for value in own):
                lost[cell] = (NONE, look.seeds)
        present = progress.present.copy()
        present[0, list(lost)] = False
        progress = replace(progress, present=present)
        progress = after_look(progress, look, values, asked.question, asked.margin, baseline)
        past.append(look)
        if asked.question == "baseline" and baseline in lost:
            progress = replace(progress, active=np.zeros_like(progress.active))
    decided = _decisions(asked, progress, values, past, lost)
    return replace(decided, todo=todo), progress, values


def _decisions(
    asked: Design,
    progress: Progress,
    values: Floats,
    past: list[Look],
    lost: Mapping[int, tuple[str, int]],
) -> Decisions:
    baseline, reference = asked.baseline, int(progress.reference[0])
    rows = [_cell(asked, progress, values, i, past, lost) for i in range(len(asked.cells))]
    stopped = ""
    if past and asked.question == "baseline" and (at := _baseline_index(asked)) in lost:
        stopped = f"the baseline {baseline} has no AP to compare with ({lost[at][0]})"
    elif past and len(lost) == len(asked.cells):
        stopped = "no cell has an AP"
    following = asked.looks[len(past)] if len(past) < len(asked.looks) else None
    going = bool(progress.active.any()) and following is not None
    return Decisions(
        design=asked,
        cells=rows,
        past=past,
        next_look=following if going else None,
        todo=[],
        reference=asked.cells[reference] if past else None,
        paired_sd=float(progress.pooled[0]),
        stopped=stopped,
    )


def _cell(
    asked: Design,
    progress: Progress,
    values: Floats,
    i: int,
    past: Sequence[Look],
    lost: Mapping[int, tuple[str, int]],
) -> CellDecision:
    given = int(progress.have[0, i])
    since = int(progress.since[0, i]) or None
    difference, half = float(progress.difference[0, i]), float(progress.half[0, i])
    verdict = OPEN
    if i in lost:
        verdict, since = lost[i]
    elif asked.cells[i] == asked.baseline:
        verdict = BASELINE
    elif progress.apart[0, i]:
        verdict = OUT
        if asked.question == "baseline":
            verdict = BETTER if difference > 0 else WORSE
    elif past and asked.question == "best" and i == int(progress.reference[0]):
        verdict, since, difference = LEADER, None, np.nan
    elif progress.within[0, i]:
        verdict = WITHIN_MARGIN
    p = float(progress.p[0, i]) if verdict not in (LEADER, BASELINE, DIVERGED, NONE) else np.nan
    seeds = int(np.isfinite(values[0, i, :given]).sum())
    return CellDecision(
        *(asked.cells[i], verdict, seeds, given, since),
        *(p, difference, difference - half, difference + half),
    )


def _table(asked: Design, found: Outcomes) -> Floats:
    """AP [1, cells, seeds]; NaN where there is none."""
    rows = [[found.get((cell, seed)) for seed in asked.seeds] for cell in asked.cells]
    numbers = [[value if isinstance(value, float | int) else None for value in row] for row in rows]
    return np.array([numbers], dtype=np.float64)


def _baseline_index(asked: Design) -> int:
    return asked.cells.index(asked.baseline) if asked.baseline is not None else 0


def unresolved(asked: Design, paired_sd: float) -> tuple[float, int | None] | None:
    """Whether the margin is too small for the design: even at the last look a difference of the
    margin would be found, or excluded, in less than half of the sweeps.

    Args:
        asked: the design.
        paired_sd: standard deviation of one seed's paired difference, in AP.

    Returns:
        The difference that the design can resolve, and the most seeds that the margin would take
        (``None`` beyond ``MOST_NEEDED``); ``None`` if the margin can be resolved.
    """
    if not paired_sd > asked.margin / 1000:
        return None
    reach = _reach(asked, len(asked.seeds), paired_sd)
    if reach <= asked.margin:
        return None
    most = range(len(asked.seeds) + 1, MOST_NEEDED + 1)
    enough = (n for n in most if _reach(asked, n, paired_sd) <= asked.margin)
    return reach, next(enough, None)


def _reach(asked: Design, max_seeds: int, paired_sd: float) -> float:
    """Half-width of the wider test at the last look of a design of ``max_seeds``."""
    cells, share = len(asked.cells), WITHIN[asked.question]
    level = looks(max_seeds)[-1].level
    pairs = cells * (cells - 1) if asked.question == "best" else 2 * (cells - 1)
    tail = min(level * (1 - share) / pairs, level * share / cells)
    df = (cells - 1) * (max_seeds - 1)
    return float(stats.t.isf(tail, df) * paired_sd / np.sqrt(max_seeds))


def expected_trials(asked: Design, found: Outcomes, seed: int = 0) -> float | None:
    """How many more trials the sweep is expected to take, by simulating the rest of it with the
    cells' means and the noise so far; ``None`` before the first look."""
    decided, progress, values = _walk(asked, found)
    if not decided.past or not np.isfinite(decided.paired_sd):
        return None
    if not decided.todo:
        return 0.0
    kept = np.flatnonzero(progress.present[0])
    own = values[:, kept]
    effect, _ = cell_effects(own)
    rng = np.random.default_rng(seed)
    noise = rng.normal(0, decided.paired_sd / np.sqrt(2), (DRAWS, *own.shape[1:]))
    whole = np.where(np.isfinite(own), own, effect[..., None] + noise)
    labels = [asked.cells[cell] for cell in kept]
    baseline = labels.index(asked.baseline) if asked.baseline is not None else 0
    ended = run(asked.question, asked.looks, whole, asked.margin, baseline)
    needed = np.arange(len(asked.seeds)) < ended.have[..., None]  # [sweeps, cells, seeds]
    done = [[(label, seed) in found for seed in asked.seeds] for label in labels]
    left = (needed & ~np.array(done)).sum(axis=(1, 2))
    return float(np.maximum(left, len(decided.todo)).mean())
