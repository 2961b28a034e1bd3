"""The histogram of logits in ``probabilities.npz``, from which the loss CDFs are drawn.

The file holds ``positive`` and ``negative``: int64 [LOGIT_BINS] counts of the sampled windows
(anchor-class pairs, ignored anchors left out) by their logit x, on a uniform grid over
[-LOGIT_LIMIT, LOGIT_LIMIT] (clamped). p is kept to 0.05 % of min(p, 1 - p), and ten million samples
take a few hundred kilobytes. ``positive_total`` and ``negative_total`` count the windows that the
sample was drawn from.
"""

import numpy as np
from numpy.typing import NDArray

LOGIT_LIMIT = 32.0
LOGIT_BINS = 1 << 16
_AT_A_TIME = 1 << 20  # logits counted at a time, to bound the memory


def count_logits(logits: NDArray[np.floating]) -> NDArray[np.int64]:
    """Counts of ``logits`` (any shape) by bin, int64 [LOGIT_BINS]; NaN counts in the first bin."""
    counts = np.zeros(LOGIT_BINS, dtype=np.int64)
    flat = logits.reshape(-1)
    for start in range(0, len(flat), _AT_A_TIME):
        part = flat[start : start + _AT_A_TIME]
        bins = np.nan_to_num((part + LOGIT_LIMIT) * (LOGIT_BINS / (2 * LOGIT_LIMIT)))
        counts += np.bincount(
            np.clip(bins, 0, LOGIT_BINS - 1).astype(np.int64), minlength=LOGIT_BINS
        )
    return counts


def bin_centres() -> NDArray[np.float64]:
    """Centres of the bins, float64 [LOGIT_BINS]."""
    width = 2 * LOGIT_LIMIT / LOGIT_BINS
    return -LOGIT_LIMIT + width * (np.arange(LOGIT_BINS, dtype=np.float64) + 0.5)


def easiest_first(
    counts: NDArray[np.int64], positive: bool
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The logits x of the bins that hold samples, and their counts, easy samples first.

    A positive is easy at a large logit, a negative at a small one. Every loss that falls with p_t
    sorts the samples in this order.
    """
    occupied = np.flatnonzero(counts)
    order = occupied[::-1] if positive else occupied
    return bin_centres()[order], counts[order]


def cumulative_share(
    number: NDArray[np.int64], loss: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The CDF of a loss over samples, easy ones first (Figure 4 of arXiv:1708.02002).

    Args:
        number: samples in each bin, easy bins first, [bins].
        loss: of one sample of each bin, [bins].

    Returns:
        The fraction of the samples and the share of the loss that they hold, float64 [bins + 1]
        each, both from 0 to 1.
    """
    held = loss * number
    fraction = np.concatenate([[0.0], np.cumsum(number) / number.sum()])
    share = np.concatenate([[0.0], np.cumsum(held) / held.sum()])
    return fraction, share
