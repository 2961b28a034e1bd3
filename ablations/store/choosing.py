"""Choose cells of a grid by their coordinates: ``--only gamma=2 '!alpha=0.75'``.

A cell is chosen if, on every axis that is named, it has one of the values given, and none of those
after a ``!``. Numbers are compared as numbers. A cell without a coordinate has none of its values.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ablations.store.states import TrialState

ONLY = "cells with these coordinates: gamma=2 '!alpha=0.75'; a value twice: either"


def choose(terms: Sequence[str], points: Sequence[Mapping[str, Any]]) -> list[int]:
    """Indices of the ``points`` (coordinate -> value) that the terms choose; all without terms.

    Raises:
        ValueError: a term is no ``axis=value``, names an axis or a value that no point has, or
            nothing is left.
    """
    values: dict[str, dict[str, None]] = {}
    for point in points:
        for axis, value in point.items():
            values.setdefault(axis, {})[text_of(value)] = None
    wanted: dict[str, set[str]] = {}
    barred: dict[str, set[str]] = {}
    for term in terms:
        axis, separator, value = term.removeprefix("!").partition("=")
        if not separator or not axis:
            raise ValueError(f"--only takes AXIS=VALUE or '!AXIS=VALUE', not {term!r}")
        if axis not in values:
            raise ValueError(f"--only {term}: no axis {axis!r}; valid: {', '.join(values)}")
        if (known := text_of(value)) not in values[axis]:
            valid = ", ".join(values[axis])
            raise ValueError(f"--only {term}: no cell has that value; valid: {valid}")
        (barred if term.startswith("!") else wanted).setdefault(axis, set()).add(known)

    def has(point: Mapping[str, Any], axis: str, which: set[str]) -> bool:
        return axis in point and text_of(point[axis]) in which

    kept = [
        index
        for index, point in enumerate(points)
        if all(has(point, axis, which) for axis, which in wanted.items())
        and not any(has(point, axis, which) for axis, which in barred.items())
    ]
    if not kept:
        raise ValueError(f"--only {' '.join(terms)}: no cell is left")
    return kept


def chosen(terms: Sequence[str], states: Sequence[TrialState]) -> list[TrialState]:
    """The ``states`` of the cells that the terms choose.

    Raises:
        ValueError: as ``choose``.
    """
    if not terms:
        return list(states)
    points = {state.entry.label: state.entry.point for state in states}
    kept = {list(points)[index] for index in choose(terms, list(points.values()))}
    return [state for state in states if state.entry.label in kept]


def text_of(value: Any) -> str:
    """A coordinate as it is compared: 2, 2.0 and "2" are the same."""
    if isinstance(value, bool):
        return str(value)
    try:
        return f"{float(value):.12g}"
    except (TypeError, ValueError):
        return str(value)
