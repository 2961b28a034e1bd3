"""A sweep's ``manifest.json``: its grid, config and options, and its trials."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ablations.store.files import read_json, write_json
from ablations.store.record import READABLE, SCHEMA_VERSION

MANIFEST = "manifest.json"
TRIALS = "trials"


@dataclass(frozen=True)
class Entry:
    """One trial of a sweep as planned."""

    id: str
    point: dict[str, Any]
    label: str
    seed: int


@dataclass(frozen=True)
class Manifest:
    """The content of ``manifest.json``."""

    sweep: str
    grid: dict[str, Any]  # name, title, table, note, baseline
    config: str  # path of the base config, as given
    options: dict[str, Any]  # everything that changes results: cfg_options, smoke, GPUs a trial
    commands: list[dict[str, str]]  # command, started (ISO 8601), machine (cores, devices)
    trials: list[Entry]
    schema_version: int = SCHEMA_VERSION
    decide: dict[str, Any] | None = None  # a sequential sweep's design (analysis.decisions.Design)


def write_manifest(work_dir: Path, manifest: Manifest) -> None:
    """Write the manifest, in place of an earlier one."""
    value = asdict(manifest)
    if manifest.decide is None:
        del value["decide"]
    write_json(work_dir / MANIFEST, value)


def read_manifest(work_dir: Path) -> Manifest | None:
    """The manifest of a work directory, or ``None`` where there is none.

    Raises:
        ValueError: it was written by another schema, or is damaged.
    """
    value = read_json(work_dir / MANIFEST)
    if value is None:
        return None
    version = value.get("schema_version") if isinstance(value, dict) else None
    if version not in READABLE:
        raise ValueError(
            f"{work_dir / MANIFEST} has schema_version {version}; this code reads {READABLE}"
        )
    try:
        entries = [Entry(**entry) for entry in value.pop("trials")]
        return Manifest(**value, trials=entries)
    except (KeyError, TypeError) as error:
        raise ValueError(f"{work_dir / MANIFEST} is no manifest: {error}") from error


def trial_folder(work_dir: Path, trial_id: str) -> Path:
    return work_dir / TRIALS / trial_id
