"""A trial's training curve, thinned to what a figure can show."""

from pathlib import Path

import numpy as np
import pandas as pd

from ablations.sweep.record import CURVE_COLUMNS

POINTS = 150


def read_curve(path: Path, points: int = POINTS) -> pd.DataFrame:
    """``curve.npz`` as a frame with ``record.CURVE_COLUMNS``, averaged over equal stretches of
    iterations so that at most ``points`` rows remain.

    Raises:
        ValueError: a column is missing; the message names it.
    """
    with np.load(path, allow_pickle=False) as stored:
        lacking = [name for name in CURVE_COLUMNS if name not in stored]
        if lacking:
            raise ValueError(f"{path} lacks {', '.join(lacking)}")
        frame = pd.DataFrame({name: stored[name].astype(np.float64) for name in CURVE_COLUMNS})
    stretch = np.arange(len(frame)) // max(1, -(-len(frame) // points))
    return frame.groupby(stretch).mean()
