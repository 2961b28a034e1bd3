"""A trial's training curve, averaged to the resolution of a figure."""

from pathlib import Path

import numpy as np
import pandas as pd

from ablations.store.arrays import read_arrays
from ablations.store.record import CURVE_COLUMNS

POINTS = 150


def read_curve(path: Path, points: int = POINTS) -> pd.DataFrame:
    """``curve.npz`` as a frame with ``record.CURVE_COLUMNS``, averaged over equal stretches of
    iterations so that at most ``points`` rows remain.

    Raises:
        ValueError: the file is damaged or a column is missing; the message names it.
    """
    stored = read_arrays(path, CURVE_COLUMNS)
    frame = pd.DataFrame({name: stored[name].astype(np.float64) for name in CURVE_COLUMNS})
    stretch = np.arange(len(frame)) // max(1, -(-len(frame) // points))
    return frame.groupby(stretch).mean()
