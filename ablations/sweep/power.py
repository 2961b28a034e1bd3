"""How many seeds it takes to show a difference, without scipy: a dry run has to answer at once.

The paired t test's power is an integral over the distribution of the sample standard deviation s
(in units of the true one, f degrees of freedom): given s, the test finds the difference where a
standard normal lies beyond t s - shift. Held to ``analysis.seeds`` by a test.
"""

import functools
import math
import statistics
from collections.abc import Mapping

ALPHA, POWER = 0.05, 0.8
LIMIT = 1000
STEPS = 200  # of Simpson's rule

_NORMAL = statistics.NormalDist()


def seeds_needed(difference: float, paired_sd: float) -> int | None:
    """Fewest seeds at which a two-sided paired t test at the 5 % level finds ``difference`` with
    80 % power; ``None`` beyond ``LIMIT``.

    Args:
        difference: above 0, in AP.
        paired_sd: standard deviation of one seed's paired difference, in AP.
    """
    if paired_sd == 0:
        return 2
    reach = _NORMAL.inv_cdf(1 - ALPHA / 2) + _NORMAL.inv_cdf(POWER)
    start = max(2, math.floor((reach * paired_sd / difference) ** 2))  # the normal's
    for seeds in range(start, LIMIT + 1):
        shift = difference / paired_sd * math.sqrt(seeds)
        critical = _critical(seeds - 1)
        found = _beyond(critical, seeds - 1, shift) + _beyond(critical, seeds - 1, -shift)
        if found >= POWER:
            return seeds
    return None


def paired_sd(ap: Mapping[tuple[str, int], float]) -> float | None:
    """Standard deviation of one seed's paired difference between two cells, as a root mean square
    over all pairs; ``None`` with fewer than two cells or seeds.

    Args:
        ap: AP in percent by cell and seed.
    """
    cells = {cell for cell, _ in ap}
    by_seed: dict[int, list[float]] = {}
    for (_, seed), value in ap.items():
        by_seed.setdefault(seed, []).append(value)
    shift = {seed: statistics.fmean(values) for seed, values in by_seed.items()}
    rest: dict[str, list[float]] = {}
    for (cell, seed), value in ap.items():
        rest.setdefault(cell, []).append(value - shift[seed])
    variances = [statistics.variance(values) for values in rest.values() if len(values) > 1]
    if len(cells) < 2 or not variances:
        return None
    # Removing the seeds' means took 1 / cells of the residual variance away.
    return math.sqrt(2 * statistics.fmean(variances) * len(cells) / (len(cells) - 1))


@functools.cache
def _critical(df: int) -> float:
    """The two-sided critical value of Student's t, by bisection."""
    low, high = 0.0, 16.0  # that of one degree of freedom is 12.7
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if _beyond(middle, df, 0.0) > ALPHA / 2 else (low, middle)
    return high


def _beyond(critical: float, df: int, shift: float) -> float:
    """Probability that (Z + ``shift``) / s exceeds ``critical``."""
    root = math.sqrt(2)
    return sum(w * math.erfc((critical * s - shift) / root) for s, w in _deviations(df)) / 2


@functools.cache
def _deviations(df: int) -> list[tuple[float, float]]:
    """Values of s and their probabilities, by Simpson's rule."""
    middle, width = 1.0, 10 / math.sqrt(2 * df)
    low, high = max(0.0, middle - width), middle + width
    log_norm = math.log(2) + df / 2 * math.log(df / 2) - math.lgamma(df / 2)
    found, step = [], (high - low) / STEPS
    for i in range(STEPS + 1):
        s = low + i * step
        if s > 0 or df == 1:
            log_density = log_norm + ((df - 1) * math.log(s) if df > 1 else 0.0) - df * s * s / 2
            weight = 1 if i in (0, STEPS) else 4 if i % 2 else 2
            found.append((s, weight * step / 3 * math.exp(log_density)))
    return found
