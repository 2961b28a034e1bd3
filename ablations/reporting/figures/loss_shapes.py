"""Figure 1, loss against p_t, and the derivatives of appendix B."""

import numpy as np
from matplotlib.axes import Axes

from ablations.analysis.focal_loss import (
    focal_loss,
    focal_loss_derivative,
    focal_loss_star_derivative,
    sigmoid,
)
from ablations.reporting.figures.style import COLOURS, GREY, LINES

GAMMAS = (0.0, 0.5, 1.0, 2.0, 5.0)


def plot_loss_against_pt(ax: Axes, gammas: tuple[float, ...] = GAMMAS) -> Axes:
    """Figure 1: FL = -(1 - p_t)^gamma log(p_t), without alpha."""
    logit = np.linspace(-6.0, 12.0, 1000)
    p_t = sigmoid(logit)
    for index, gamma in enumerate(gammas):
        name = "0 (cross entropy)" if gamma == 0 else f"{gamma:g}"
        ax.plot(p_t, focal_loss(logit, gamma), color=COLOURS[index], ls=LINES[index], label=name)
    ax.axvspan(0.6, 1.0, color="#EEEEEE", lw=0)
    ax.text(0.8, 0.55, "well-classified", ha="center", va="bottom", color=GREY, fontsize=9)
    ax.set(xlim=(0, 1), ylim=(0, 5))
    ax.set_xlabel("probability of the true class, $p_t$")
    ax.set_ylabel("loss (nats)")
    ax.legend(title=r"$\gamma$")
    return ax


def plot_derivatives(ax: Axes) -> Axes:
    """Appendix B: dL/dx against x_t = yx for CE, FL and FL*, for y = 1 and without alpha."""
    x_t = np.linspace(-5.0, 5.0, 500)
    curves = [
        ("CE", focal_loss_derivative(x_t, 0.0)),
        (r"FL, $\gamma$=1", focal_loss_derivative(x_t, 1.0)),
        (r"FL, $\gamma$=2", focal_loss_derivative(x_t, 2.0)),
        (r"FL*, $\gamma$=2, $\beta$=1", focal_loss_star_derivative(x_t, 2.0, 1.0)),
        (r"FL*, $\gamma$=4, $\beta$=0", focal_loss_star_derivative(x_t, 4.0, 0.0)),
    ]
    for index, (name, slope) in enumerate(curves):
        ax.plot(x_t, slope, color=COLOURS[index], ls=LINES[index], label=name)
    ax.set(xlim=(-5, 5))
    ax.set_xlabel("$x_t = yx$ (logits)")
    ax.set_ylabel("derivative of the loss by the logit, y = 1")
    ax.legend(loc="lower right")
    return ax
