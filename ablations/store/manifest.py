"""A sweep's ``manifest.json``: its grid, config and options, and its trials."""

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ablations.store.files import read_json, write_json
from ablations.store.record import READABLE, SCHEMA_VERSION, kinds

MANIFEST = "manifest.json"
TRIALS = "trials"
_MEND = "the sweep's own command sets it aside and builds it again"


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
    write_json(work_dir / MANIFEST, value, lasting=True)


class DamagedManifestError(ValueError):
    """A manifest is there and is none; the command that made the sweep builds it again."""


def read_manifest(work_dir: Path) -> Manifest | None:
    """The manifest of a work directory, or ``None`` where there is none.

    Raises:
        DamagedManifestError: it is damaged; the message names it.
        ValueError: it was written by another schema.
    """
    path = work_dir / MANIFEST
    try:
        value = read_json(path)
    except ValueError as error:
        raise DamagedManifestError(f"{error}; {_MEND}") from error
    if value is None:
        return None
    version = value.get("schema_version") if isinstance(value, dict) else None
    if version not in READABLE:
        kind = ValueError if type(version) is int else DamagedManifestError
        mend = "" if type(version) is int else f"; {_MEND}"
        raise kind(f"{path} has schema_version {version}; this code reads {READABLE}{mend}")
    try:
        entries = [Entry(**entry) for entry in value.pop("trials")]
        manifest = Manifest(**value, trials=entries)
    except (KeyError, TypeError) as error:
        raise DamagedManifestError(f"{path} is no manifest: {error}; {_MEND}") from error
    if wrong := _ill_typed(manifest):
        raise DamagedManifestError(f"{path} is no manifest: {wrong} is of another type; {_MEND}")
    return manifest


def _ill_typed(manifest: Manifest) -> str | None:
    """The first value that is of another type than the manifest's."""
    holders: list[Manifest | Entry] = [manifest, *manifest.trials]
    for holder in holders:
        for each in fields(holder):
            if not isinstance(getattr(holder, each.name), kinds(each.type)):
                return each.name
    if "name" not in manifest.grid:
        return "grid"
    if not all(isinstance(call, dict) and "command" in call for call in manifest.commands):
        return "commands"
    if any("/" in entry.id or entry.id in ("", ".", "..") for entry in manifest.trials):
        return "id"
    return None


def trial_folder(work_dir: Path, trial_id: str) -> Path:
    return work_dir / TRIALS / trial_id
