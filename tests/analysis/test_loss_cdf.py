"""The histogram's CDFs against sorting every sample."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ablations.analysis.focal_loss import (
    focal_loss,
    focal_loss_derivative,
    focal_loss_star_derivative,
    log_sigmoid,
)
from ablations.analysis.loss_cdf import (
    FIGURE_4_GAMMAS,
    LogitSample,
    loss_cdf,
    loss_shares,
    read_logits,
)
from ablations.store.logit_histogram import LOGIT_BINS, count_logits
from tests.helpers.fabricated import logit_counts

GAMMAS = (0.0, 0.5, 1.0, 2.0, 5.0)


def exact_share(logits: np.ndarray, sign: float, gamma: float, fractions: np.ndarray) -> np.ndarray:
    loss = np.sort(focal_loss(sign * logits, gamma))
    cumulated = np.concatenate([[0.0], np.cumsum(loss) / loss.sum()])
    return np.interp(fractions, np.linspace(0, 1, len(cumulated)), cumulated)


def test_the_papers_worked_numbers() -> None:
    # p_t = 0.9 and 0.1: CE 0.105361 and 2.30259; FL (gamma 2) 0.00105361 and 1.86509
    x_t = np.log([9.0, 1 / 9])
    np.testing.assert_allclose(focal_loss(x_t, 0.0), [0.105361, 2.30259], rtol=5e-6)
    np.testing.assert_allclose(focal_loss(x_t, 2.0), [0.00105361, 1.86509], rtol=5e-6)
    np.testing.assert_allclose(focal_loss(x_t, 2.0, 0.25), 0.25 * focal_loss(x_t, 2.0))


def test_derivatives_are_those_of_the_losses() -> None:
    x, step = np.linspace(-6, 6, 25), 1e-5
    for gamma in (0.0, 0.5, 2.0):
        numeric = (focal_loss(x + step, gamma) - focal_loss(x - step, gamma)) / (2 * step)
        np.testing.assert_allclose(focal_loss_derivative(x, gamma), numeric, atol=1e-8)
    above, below = (-log_sigmoid(4 * (x + s) + 1) / 4 for s in (step, -step))  # FL*, appendix A
    np.testing.assert_allclose(
        focal_loss_star_derivative(x, 4, 1), (above - below) / (2 * step), atol=1e-8
    )
    with pytest.raises(ValueError, match="gamma > 0"):
        focal_loss_star_derivative(x, 0, 1)


def test_losses_are_finite_at_extreme_logits() -> None:
    x = np.array([-1000.0, -50.0, 0.0, 50.0, 1000.0])
    for gamma in (0.0, 0.5, 2.0):
        assert np.isfinite(focal_loss(x, gamma)).all()
        assert np.isfinite(focal_loss_derivative(x, gamma)).all()


@pytest.mark.parametrize("gamma", GAMMAS)
def test_curves_are_those_of_an_exact_sort(gamma: float) -> None:
    rng = np.random.default_rng(0)
    positives, negatives = rng.normal(0.5, 2, 20_000), rng.normal(-5, 1.5, 300_000)
    fractions = np.concatenate([np.linspace(0, 1, 500), 1 - np.geomspace(1e-4, 1, 200)])
    for logits, positive in ((positives, True), (negatives, False)):
        curve = loss_cdf(count_logits(logits), positive, gamma)
        ours = np.interp(fractions, curve.fraction, curve.share)
        exact = exact_share(logits, 1.0 if positive else -1.0, gamma, fractions)
        assert abs(ours - exact).max() < 1e-3
    assert curve.share[-1] == pytest.approx(1.0)


def test_counting_is_numpys_histogram_and_clamps() -> None:
    logits = np.random.default_rng(1).normal(0, 20, 5000)
    counts = count_logits(logits)
    np.testing.assert_array_equal(counts, logit_counts(logits))
    assert counts.sum() == 5000
    assert counts[0] > 0
    assert counts[-1] > 0


def test_equal_losses_give_the_diagonal() -> None:
    counts = np.zeros(LOGIT_BINS, dtype=np.int64)
    counts[40_000] = 7
    curve = loss_cdf(counts, True, 2.0)
    assert curve.hardest(0.2) == pytest.approx(0.2)
    with pytest.raises(ValueError, match="no samples"):
        loss_cdf(np.zeros(LOGIT_BINS, dtype=np.int64), True, 2.0)


def test_two_samples_by_hand() -> None:
    # positives with p = 0.9 and 0.1: CE 0.105361 and 2.302585, so the harder half holds 95.62 %
    curve = loss_cdf(count_logits(np.log([9.0, 1 / 9])), True, 0.0)
    assert curve.hardest(0.5) == pytest.approx(2.302585 / (2.302585 + 0.105361), abs=1e-3)


def test_the_loss_moves_to_hard_negatives_as_gamma_grows() -> None:
    rng = np.random.default_rng(2)
    sample = LogitSample(
        count_logits(rng.normal(1, 2, 10_000)), count_logits(rng.normal(-6, 1.5, 100_000)), 1, 1
    )
    shares = loss_shares(sample, FIGURE_4_GAMMAS)
    negatives = [row["negatives"] for row in shares]
    assert negatives == sorted(negatives)
    assert negatives[-1] > 2 * negatives[0]


def test_counts_of_another_shape_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "probabilities.npz"
    few = np.ones(3, dtype=np.int64)
    np.savez(path, positive=few, negative=few, positive_total=3, negative_total=3)
    with pytest.raises(ValueError, match="shape"):
        read_logits(path)


FULL_SIZE = """
import time
from pathlib import Path
import numpy as np
from ablations.analysis.loss_cdf import loss_cdf
from ablations.store.logit_histogram import count_logits
rng = np.random.default_rng(0)
negative = rng.standard_normal(10_000_000, dtype=np.float32)
negative *= 1.5
negative -= 5
positive = rng.standard_normal(100_000, dtype=np.float32)
start = time.process_time()
counts = count_logits(positive), count_logits(negative)
for gamma in (0.0, 0.5, 1.0, 2.0, 5.0):
    loss_cdf(counts[0], True, gamma)
    loss_cdf(counts[1], False, gamma)
seconds = time.process_time() - start
# Not ru_maxrss, which starts at the size of the process that started this one.
peak = Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]
print(seconds, int(peak) * 1024 / 1e6)
"""


def test_full_size_takes_at_most_a_second_and_a_half_and_400_mb() -> None:
    """1e7 + 1e5 samples, five gammas, counting included; the samples themselves are 40 MB."""
    best = min(
        tuple(map(float, subprocess.check_output([sys.executable, "-c", FULL_SIZE]).split()))
        for _ in range(2)
    )
    assert best[0] < 1.5
    assert best[1] < 400
