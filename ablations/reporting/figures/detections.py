"""Detections of several trials on the same images, side by side."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from ablations.reporting.figures.style import COLOURS

SCORE = 0.3


@dataclass(frozen=True)
class Boxes:
    """``bbox`` float [N, 4] as x, y, w, h in pixels, ``names`` [N], ``scores`` [N] or ``None`` for
    the ground truth."""

    bbox: NDArray[np.floating]
    names: Sequence[str]
    scores: NDArray[np.floating] | None = None


def plot_boxes(ax: Axes, image: NDArray[np.uint8], boxes: Boxes, title: str) -> Axes:
    """An image [H, W, 3] with its boxes; of detections those scored at least ``SCORE``."""
    ax.imshow(image, interpolation="nearest")
    truth = boxes.scores is None
    for index in range(len(boxes.bbox)):
        if boxes.scores is not None and boxes.scores[index] < SCORE:
            continue
        x, y, width, height = boxes.bbox[index]
        style: dict[str, Any] = {"ls": "-"} if truth else {"ls": "--"}
        colour = "white" if truth else COLOURS[5]
        for line, edge in ((2.6, "black"), (1.3, colour)):
            ax.add_patch(Rectangle((x, y), width, height, fill=False, ec=edge, lw=line, **style))
        score = "" if boxes.scores is None else f" {boxes.scores[index]:.2f}"
        ax.text(
            x,
            y,
            f"{boxes.names[index]}{score}",
            fontsize=6,
            color="white",
            va="bottom",
            bbox={"fc": "black", "ec": "none", "pad": 0.6, "alpha": 0.7},
            clip_on=True,
        )
    ax.set_title(title, fontsize=8)
    ax.set_xlim(-0.5, image.shape[1] - 0.5)
    ax.set_ylim(image.shape[0] - 0.5, -0.5)
    ax.set_axis_off()
    return ax
