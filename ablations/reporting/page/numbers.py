"""Numbers as the page carries them: rounded, and ``None`` where there is none."""

from collections.abc import Iterable
from typing import Any

import numpy as np


def rounded(value: float | None, digits: int = 3) -> float | None:
    """``value`` with at most ``digits`` decimals; ``None`` for NaN and infinities."""
    return None if value is None or not np.isfinite(value) else round(float(value), digits)


def significant(value: float | None, digits: int = 6) -> float | None:
    """``value`` with ``digits`` significant digits; ``None`` for NaN and infinities."""
    return None if value is None or not np.isfinite(value) else float(f"{value:.{digits}g}")


def significant_all(values: Iterable[Any], digits: int = 5) -> list[float | None]:
    """Every number of a sequence with ``digits`` significant digits."""
    return [significant(float(value), digits) for value in values]
