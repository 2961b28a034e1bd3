"""The paper's losses and their derivatives as numpy formulas of logits.

Notation of the paper: x is a logit, y in {-1, 1}, x_t = y x, p_t = sigmoid(x_t); alpha_t = alpha
for y = 1 and 1 - alpha for y = -1. All arrays broadcast; results have the broadcast shape.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def log_sigmoid(x: ArrayLike) -> Array:
    """log(sigmoid(x)) without overflow or cancellation."""
    return -np.logaddexp(0.0, -np.asarray(x, dtype=np.float64))


def sigmoid(x: ArrayLike) -> Array:
    """1 / (1 + exp(-x))."""
    return np.exp(log_sigmoid(x))


def focal_loss(x_t: ArrayLike, gamma: float, alpha_t: float = 1.0) -> Array:
    """FL = -alpha_t (1 - p_t)^gamma log(p_t), equation 5; gamma = 0 is balanced CE, equation 3."""
    x_t = np.asarray(x_t, dtype=np.float64)
    return -alpha_t * np.exp(gamma * log_sigmoid(-x_t)) * log_sigmoid(x_t)


def focal_loss_derivative(x_t: ArrayLike, gamma: float) -> Array:
    """y dFL/dx = (1 - p_t)^gamma (gamma p_t log p_t + p_t - 1), appendix B; gamma = 0 is CE's."""
    x_t = np.asarray(x_t, dtype=np.float64)
    log_p, log_q = log_sigmoid(x_t), log_sigmoid(-x_t)
    return np.exp(gamma * log_q) * (gamma * np.exp(log_p) * log_p - np.exp(log_q))


def focal_loss_star_derivative(x_t: ArrayLike, gamma: float, beta: float) -> Array:
    """y dFL*/dx = sigmoid(gamma x_t + beta) - 1, appendix B."""
    if gamma <= 0:
        raise ValueError(f"FL* needs gamma > 0, not {gamma}")
    return -sigmoid(-(gamma * np.asarray(x_t, dtype=np.float64) + beta))
