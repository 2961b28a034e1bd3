"""Ids as annotation files have them: numbers, mostly."""

from collections.abc import Mapping, Sequence
from itertools import repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

Id = int | str

LARGEST = 2**53
"""Ids below are exact as floats, which is what detections carry through pycocotools."""


def plain_id(value: Any) -> Id | None:
    """An id as it is compared: 7, 7.0 and "7" are the same; ``None`` for what is no id.

    Text such as "007" or "a1" stays text: its zeros may tell images apart.
    """
    if type(value) is int:
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and value:
        digits = value.removeprefix("-")
        if digits.isascii() and digits.isdigit() and (digits == "0" or digits[0] != "0"):
            return int(value)
        return value
    return None


def plain_ids(values: Sequence[Any]) -> list[Id | None]:
    """``plain_id`` of each."""
    if set(map(type, values)) <= {int}:
        return list(values)
    return [plain_id(value) for value in values]


def is_exact(value: Id | None) -> bool:
    """Whether detections can carry the id."""
    return isinstance(value, int) and -LARGEST < value < LARGEST


def all_exact(ids: Sequence[Id | None]) -> bool:
    """Whether detections can carry all of the ids."""
    if set(map(type, ids)) == {int}:  # as nearly always: a tenth of the time
        return min(ids) > -LARGEST and max(ids) < LARGEST  # type: ignore[type-var, operator]
    return all(map(is_exact, ids))


def places(ids: Sequence[Id | None], where: Mapping[Any, int], unknown: int) -> NDArray[np.int64]:
    """``where[id]`` of each id, ``unknown`` for those that are not there."""
    return np.fromiter(map(where.get, ids, repeat(unknown)), np.int64, len(ids))
