"""Offline runs, read back with wandb's own reader."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any


def newest(folder: Path) -> Path:
    """The file of the newest offline run in a trial's folder or a sweep's work directory."""
    return sorted(folder.glob("wandb/offline-run-*/*.wandb"))[-1]


def summary(file: Path) -> dict[str, Any]:
    """Config, summary and state of a run."""
    found: dict[str, Any] = json.loads(_inspect(file, "--summary"))
    return found


def records(file: Path, kind: str) -> list[dict[str, Any]]:
    """All records of a kind: ``run``, ``history``, ``artifact``."""
    found = [json.loads(line) for line in _inspect(file).splitlines()]
    return [record[kind] for record in found if record["type"] == kind]


def rows(file: Path) -> list[dict[str, Any]]:
    """The history."""
    return [record["item"] for record in records(file, "history")]


def _inspect(file: Path, *flags: str) -> str:
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", *flags, str(file)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
