"""Sequential designs: add seeds only where a question is still open, and stop on a valid answer.

Two questions. *best*: which cells can be the best? A cell is out when it is significantly worse
than the leader. *baseline*: is each cell better or worse than the baseline, or does it differ by
less than the margin? The cells are looked at when all that are still open have 2, 3, 4, ... seeds:
the looks, which are declared before the first trial. docs/deciding.md explains the procedure.

The chance of any wrong verdict, over all cells and all looks, is at most ``ALPHA``, by union
bounds:

- Each look has a share of the level; the shares add up to one. They are the increments of the
  spending function alpha t^3 of Kim and DeMets (Biometrika 74, 1987), t the share of the seeds,
  without the gain from the correlation of looks: any test that is valid at a look may be used.
- ``WITHIN`` of the level is kept for verdicts of "no difference beyond the margin" (two one-sided
  tests, Schuirmann 1987), the rest for differences. The two cannot share one Holm sequence: with
  all cells exactly one margin away, those that are rightly called different would leave the full
  level to the others, and every fourth sweep would call some cell equal.
- Differences from the baseline: Holm over the cells not yet found different. Worse than the leader:
  any of the m cells that are still in may be the true best, and any other of the k the leader of
  the day, so one-sided Holm with m (k - 1) comparisons.
- Within the margin: Holm over the cells not yet found to be within. For *best* a cell has to be
  shown within the margin of every cell that is not out.

Arrays are [sweeps, cells, seeds]: one sweep in practice, thousands in a simulation.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray
from scipy import special

from ablations.analysis.seeds import ALPHA
from ablations.analysis.spreads import Spreads, spreads

Question = Literal["best", "baseline"]
QUESTIONS: tuple[str, ...] = get_args(Question)
WITHIN = {"best": 0.1, "baseline": 0.4}
"""Share of the level that is kept for "no difference beyond the margin"."""
FEWEST_SEEDS = 2
LOOKS = (2, 3, 5, 7, 10, 14, 20, 28, 40, 56, 80, 112)
"""Seeds at the looks, as far as the design goes; the most seeds are always a look."""

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Look:
    """When all open cells have ``seeds`` seeds, their verdicts may err with a chance of ``level``
    (of ``ALPHA`` in all)."""

    seeds: int
    level: float


def looks(max_seeds: int) -> list[Look]:
    """The looks of a design of at most ``max_seeds`` seeds; their levels add up to ``ALPHA``."""
    seeds = [*(seeds for seeds in LOOKS if seeds < max_seeds), max_seeds]
    spent = ALPHA * (np.array(seeds) / max_seeds) ** 3
    return [
        Look(n, float(level)) for n, level in zip(seeds, np.diff(spent, prepend=0), strict=True)
    ]


@dataclass(frozen=True)
class Comparison:
    """What one look says; arrays [sweeps, cells], NaN where there is nothing to say.

    ``reference`` [sweeps] is the cell compared with: the leader, or the baseline. ``difference`` is
    that of a cell from it, over the ``n`` seeds that both have, ``half`` the half-width of its
    interval: all intervals at all looks hold together with a chance of 1 - ``ALPHA``. ``p`` (of a
    difference) and ``p_within`` (of none beyond the margin) are corrected for cells and looks:
    at most ``ALPHA`` is a verdict. ``pooled`` [sweeps] is the standard deviation of one seed's
    difference, all pairs together.
    """

    reference: NDArray[np.int64]
    difference: Floats
    n: NDArray[np.int64]
    half: Floats
    p: Floats
    p_within: Floats
    pooled: Floats


@dataclass(frozen=True)
class Progress:
    """Where sweeps are after some looks; arrays [sweeps, cells].

    ``have``: seeds that a cell was given. ``apart``: found worse than the leader (or different from
    the baseline); ``within``: found to differ by less than the margin. ``present``: takes part.
    ``active``: gets more seeds. ``since``: seeds at the look of its verdict, 0 without one.
    ``difference``, ``half``, ``p``, ``n``: as in ``Comparison``, at the cell's last look; ``p``
    is that of its verdict, if it has one. ``reference`` and ``pooled`` [sweeps].
    """

    have: NDArray[np.int64]
    apart: Flags
    within: Flags
    present: Flags
    active: Flags
    since: NDArray[np.int64]
    difference: Floats
    half: Floats
    p: Floats
    n: NDArray[np.int64]
    reference: NDArray[np.int64]
    pooled: Floats


def start(sweeps: int, cells: int) -> Progress:
    """Before the first look."""
    shape = (sweeps, cells)
    no, nan, zero = np.zeros(shape, bool), np.full(shape, np.nan), np.zeros(shape, np.int64)
    first = np.zeros(sweeps, np.int64)
    return Progress(
        zero, no, no, ~no, ~no, zero, nan, nan, nan, zero, first, np.full(sweeps, np.nan)
    )


def after_look(
    before: Progress, look: Look, values: Floats, question: str, margin: float, baseline: int = 0
) -> Progress:
    """The progress after a look at ``values`` [sweeps, cells, seeds or more], at which the active
    cells have ``look.seeds`` seeds; what the others have beyond their own seeds is ignored."""
    have = np.where(before.active, look.seeds, before.have)
    rows = np.flatnonzero(before.active.any(axis=1))
    if not len(rows):
        return before
    mine = np.arange(look.seeds) < have[rows][..., None]
    table = np.where(mine, values[rows][..., : look.seeds], np.nan)
    apart, within, present = before.apart[rows], before.within[rows], before.present[rows]
    found = judge(question, table, margin, look.level, apart, within, present, baseline)
    tested = before.active[rows] & present
    now_apart = apart | (tested & (found.p <= ALPHA))
    now_within = within | (tested & (found.p_within <= ALPHA) & ~now_apart)
    others = np.arange(values.shape[1]) != found.reference[:, None]
    undecided = present & ~now_apart & ~now_within & others
    left = undecided.any(axis=1, keepdims=True)
    if question == "best":  # whoever may be the best goes on: the others are compared with it
        active = present & ~now_apart & left
    else:
        active = undecided.copy()
        active[:, baseline] = left[:, 0]
    new = (now_apart & ~apart) | (now_within & ~within)
    shown = tested & ~within  # what is known of a cell that was within the margin stays
    p = np.where(now_within & ~apart & ~now_apart, found.p_within, found.p)

    def merged(old: NDArray, fresh: NDArray, where: Flags) -> NDArray:
        whole = old.copy()
        whole[rows] = np.where(where, fresh, old[rows])
        return whole

    every = np.ones_like(tested)
    reference, pooled = before.reference.copy(), before.pooled.copy()
    reference[rows], pooled[rows] = found.reference, found.pooled
    return replace(
        before,
        have=have,
        apart=merged(before.apart, now_apart, every),
        within=merged(before.within, now_within & ~now_apart, every),
        active=merged(before.active, active, every),
        since=merged(before.since, np.full_like(apart, look.seeds, dtype=np.int64), new),
        difference=merged(before.difference, found.difference, tested),
        half=merged(before.half, found.half, tested),
        p=merged(before.p, p, shown | new),
        n=merged(before.n, found.n, tested),
        reference=reference,
        pooled=pooled,
    )


def run(
    question: str, at: Sequence[Look], values: Floats, margin: float, baseline: int = 0
) -> Progress:
    """Whole sweeps of which every trial that may be needed is known: [sweeps, cells, seeds]."""
    progress = start(*values.shape[:2])
    for look in at:
        progress = after_look(progress, look, values, question, margin, baseline)
    return progress


def judge(
    question: str,
    values: Floats,
    margin: float,
    level: float,
    apart: Flags,
    within: Flags,
    present: Flags,
    baseline: int = 0,
) -> Comparison:
    """Look at ``values`` [sweeps, cells, seeds], NaN where a cell lacks a seed.

    Args:
        question: one of ``QUESTIONS``.
        values: AP of the seeds up to the look.
        margin: differences below it do not matter, AP.
        level: spent at this look.
        apart: cells found worse than the leader (or different from the baseline) before.
        within: cells found to be within the margin before.
        present: cells that take part: not those that diverged.
        baseline: index of the baseline.
    """
    found = spreads(np.where(present[..., None], values, np.nan))
    look = _Look(found, *_square(found), margin, level, apart, within, present)
    return _judge_best(look) if question == "best" else _judge_baseline(look, baseline)


class _Look(NamedTuple):
    """The arguments of ``judge``, and all pairs of cells as matrices (``_square``)."""

    found: Spreads
    gap: Floats
    error: Floats
    df: Floats
    n: NDArray[np.int64]
    margin: float
    level: float
    apart: Flags
    within: Flags
    present: Flags


def _judge_best(look: _Look) -> Comparison:
    found, gap, error, df, n, margin, level, apart, within, present = look
    still = present & ~apart
    effect = np.where(still & np.isfinite(found.effect), found.effect, -np.inf)
    leader = effect.argmax(axis=-1)
    cells = present.sum(axis=-1, keepdims=True)
    share = WITHIN["best"]
    mine, error_mine, df_mine, n_mine = (_row(of, leader) for of in (gap, error, df, n))
    p = np.where(still & (df_mine > 0), _tail(mine / error_mine, df_mine), np.nan)
    pairs = still.sum(axis=-1, keepdims=True)
    corrected = _holm(p, pairs, cells - 1) * ALPHA / (level * (1 - share))
    # A cell is within the margin of the best if it is so of each that may be the best.
    against = still[..., None, :] & ~np.eye(gap.shape[-1], dtype=bool)
    tails = np.where(against, _tail((margin + gap) / error, df), 0.0)  # gap: cell - the other
    p_within = np.where(still & ~within, tails.max(axis=-1), np.nan)
    left = cells - (within & present).sum(axis=-1, keepdims=True)
    corrected_within = _holm(p_within, left, 1) * ALPHA / (level * share)
    tail = level * (1 - share) / np.maximum(cells * (cells - 1), 1)
    half = _quantile(tail, df_mine) * error_mine
    return Comparison(
        leader, -mine, n_mine, half, _capped(corrected), _capped(corrected_within), found.pooled
    )


def _judge_baseline(look: _Look, baseline: int) -> Comparison:
    found, gap, error, df, n, margin, level, apart, within, present = look
    share = WITHIN["baseline"]
    reference = np.full(gap.shape[:-2], baseline)
    mine, error_mine, df_mine, n_mine = (_row(of, reference) for of in (gap, error, df, n))
    others = present.copy()
    others[..., baseline] = False
    cells = others.sum(axis=-1, keepdims=True)
    open_ = others & ~apart & ~within
    open_ &= df_mine > 0
    p = np.where(open_, 2 * _tail(abs(mine) / error_mine, df_mine), np.nan)
    left = cells - (apart & others).sum(axis=-1, keepdims=True)
    corrected = _holm(p, left, 1) * ALPHA / (level * (1 - share))
    p_within = np.where(open_, _tail((margin - abs(mine)) / error_mine, df_mine), np.nan)
    left = cells - (within & others).sum(axis=-1, keepdims=True)
    corrected_within = _holm(p_within, left, 1) * ALPHA / (level * share)
    half = _quantile(level * (1 - share) / np.maximum(2 * cells, 1), df_mine) * error_mine
    return Comparison(
        reference, -mine, n_mine, half, _capped(corrected), _capped(corrected_within), found.pooled
    )


def _square(found: Spreads) -> tuple[Floats, Floats, Floats, NDArray[np.int64]]:
    """Pairs as matrices [..., cells, cells]: row minus column, its standard error, df and n."""
    cells = found.effect.shape[-1]
    shape = (*found.difference.shape[:-1], cells, cells)
    gap, error, df = (np.full(shape, np.nan) for _ in range(3))
    n = np.zeros(shape, dtype=np.int64)
    one, other = found.first, found.second
    gap[..., one, other], gap[..., other, one] = found.difference, -found.difference
    for matrix, of in ((error, found.error), (df, found.df), (n, found.n)):
        matrix[..., one, other] = matrix[..., other, one] = of
    return gap, error, df, n


def _row(matrix: NDArray, row: NDArray[np.int64]) -> NDArray:
    """Row ``row`` [...] of each ``matrix`` [..., cells, cells]."""
    return np.take_along_axis(matrix, row[..., None, None], axis=-2)[..., 0, :]


def _tail(t: Floats, df: Floats) -> Floats:
    """Student's upper tail; 1 where there is nothing to test."""
    some = np.isfinite(t) | np.isinf(t)
    with np.errstate(invalid="ignore"):
        found = special.stdtr(np.where(df > 0, df, 1.0), np.where(some, -t, 0.0))
    return np.where(some & (df > 0), found, 1.0)


def _quantile(tail: Floats, df: Floats) -> Floats:
    return np.where(df > 0, -special.stdtrit(np.where(df > 0, df, 1.0), tail), np.nan)


def _holm(p: Floats, family: NDArray[np.int64], times: NDArray[np.int64] | int) -> Floats:
    """Holm's corrected p values along the last axis: the smallest times ``family``, the next times
    one less, each also times ``times``. NaN entries are no tests and stay NaN."""
    order = np.argsort(p, axis=-1)
    ranked = np.take_along_axis(p, order, axis=-1)
    steps = np.maximum(family - np.arange(p.shape[-1]), 1) * times
    ranked = np.maximum.accumulate(ranked * steps, axis=-1)
    adjusted = np.empty_like(ranked)
    np.put_along_axis(adjusted, order, ranked, axis=-1)
    return adjusted


def _capped(p: Floats) -> Floats:
    return np.minimum(p, 1.0)
