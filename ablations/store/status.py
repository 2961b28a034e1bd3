"""A trial's ``status.json``: its state while it has no record.

The trial writes its progress. If its process dies, the launcher writes the reason. Keys: ``state``,
``reason``, ``note`` (what the user should know), ``attempts``, ``iteration``, ``iterations``,
``loss``, ``iteration_s`` (seconds), on Slurm ``requeues`` and, at the end, ``record`` (the SHA-256
of the record).
"""

import contextlib
from pathlib import Path
from typing import Any

from ablations.store.files import read_json, set_aside, write_json

STATUS = "status.json"
DAMAGED = {"state": "unknown", "reason": f"its {STATUS} was damaged"}

_TYPES: dict[str, Any] = {
    "state": str,
    "reason": str | None,
    "note": str | None,
    "attempts": list,
    "iteration": int,
    "iterations": int,
    "loss": int | float | None,
    "iteration_s": int | float,
    "requeues": list,
}
_ROWS: dict[str, set[str]] = {
    "attempts": set(),
    "requeues": {"job", "kind"},
}  # lists of dicts with these keys


def read_status(folder: Path) -> dict[str, Any]:
    """The status of the trial in ``folder``; empty before it has one.

    A damaged file costs what it said, no more: a trial continues from its checkpoint. Values of
    another type than they should have are left out.
    """
    try:
        found = read_json(folder / STATUS)
    except ValueError:
        return dict(DAMAGED)
    if found is None:
        return {}
    if not isinstance(found, dict):
        return dict(DAMAGED)
    kept = {
        name: value
        for name, value in found.items()
        if name not in _TYPES or isinstance(value, _TYPES[name])
    }
    for name, keys in _ROWS.items():
        if name in kept:
            kept[name] = [row for row in kept[name] if isinstance(row, dict) and keys <= set(row)]
    return kept


def update_status(folder: Path, **values: Any) -> None:
    """Set ``values`` in the trial's status and keep the rest. A damaged file is set aside."""
    known = read_status(folder)
    if known == DAMAGED:
        with contextlib.suppress(FileNotFoundError):
            set_aside(folder / STATUS)
        known = {}
    write_json(folder / STATUS, known | values)
