"""A trial's ``status.json``: its state while it has no record.

The trial writes its progress. If its process dies, the launcher writes the reason. Keys: ``state``,
``reason``, ``attempts``, ``iteration``, ``iterations``, ``loss``, ``iteration_s`` (seconds) and, on
Slurm, ``requeues``.
"""

from pathlib import Path
from typing import Any

from ablations.store.files import read_json, write_json

STATUS = "status.json"


def read_status(folder: Path) -> dict[str, Any]:
    """The status of the trial in ``folder``; empty before it has one."""
    return read_json(folder / STATUS) or {}


def update_status(folder: Path, **values: Any) -> None:
    """Set ``values`` in the trial's status and keep the rest."""
    write_json(folder / STATUS, read_status(folder) | values)
