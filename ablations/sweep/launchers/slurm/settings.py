"""The settings of a Slurm request: ``configs/slurm.toml`` and ``--slurm KEY=VALUE``."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_type_hints

from ablations.sweep.errors import UsageError, one_of

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@dataclass(frozen=True)
class Settings:
    """The settings of a Slurm request; ``configs/slurm.toml`` explains every key."""

    partition: str = ""
    account: str = ""
    qos: str = ""
    constraint: str = ""
    time: str = ""
    mem: str = ""
    nodes: int = 1
    gpus_per_process: int = 1
    cpus_per_process: int = 1
    signal_seconds: int = 90
    requeues: int = 20
    setup: list[str] = field(default_factory=list)
    extra: list[str] = field(default_factory=list)
    report_partition: str = ""

    @property
    def minutes(self) -> float | None:
        """The time limit in minutes, or ``None`` for the partition's own."""
        return _minutes(self.time) if self.time else None


def load_settings(path: Path | None, options: Mapping[str, Any]) -> Settings:
    """The settings of a TOML file (none: the defaults), replaced by ``options`` where given.

    Raises:
        UsageError: the file cannot be read, or keys or values are not valid; all are named.
    """
    values: dict[str, Any] = {}
    if path is not None:
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise UsageError(f"{path} does not exist") from None
        except OSError as error:
            raise UsageError(f"{path} cannot be read: {error.strerror}") from None
        except (ValueError, RecursionError) as error:  # ValueError: also bytes that are no UTF-8
            raise UsageError(f"{path} is not TOML: {error}") from None
    values |= options
    kinds = get_type_hints(Settings)
    wrong = []
    for key, value in values.items():
        if key not in kinds:
            wrong.append(one_of("Slurm setting", key, kinds))
            continue
        if kinds[key] is str and isinstance(value, int):
            values[key] = value = str(value)
        if kinds[key] == list[str] and isinstance(value, str):
            values[key] = value = [value]
        kind: Any = list if kinds[key] == list[str] else kinds[key]
        if not isinstance(value, kind) or isinstance(value, bool):
            wrong.append(f"{key} is {value!r}; it must be {_KINDS[kind]}")
        elif bad := [text for text in _texts(value) if not _is_line(text)]:
            wrong.append(f"{key} has {bad[0]!r}; it must be one line of text")
        elif kind is int and value < (0 if key in ("requeues", "gpus_per_process") else 1):
            wrong.append(f"{key} is {value}; it must be more")
    wrong += [
        f"extra has {line!r}; lines look like '--reservation=vision'"
        for line in _texts(values.get("extra"))
        if not str(line).startswith("--")
    ]
    if not wrong:
        settings = Settings(**values)
        try:
            limit = settings.minutes
        except ValueError:
            wrong.append(f"time is {settings.time!r}; write minutes, H:MM:SS, D-H or D-HH:MM:SS")
        else:
            if limit is not None and limit * 60 <= settings.signal_seconds:
                wrong.append(
                    f"time is {settings.time!r}, within the signal_seconds of "
                    f"{settings.signal_seconds}: no trial would ever run"
                )
    if wrong:
        raise UsageError("; ".join(wrong))
    return settings


def _texts(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value] if isinstance(value, str) else []


def _is_line(text: Any) -> bool:
    """Whether this adds one line to a script, and not another option of ``sbatch``."""
    return isinstance(text, str) and text.replace("\t", " ").isprintable()


_KINDS = {str: "text", int: "a whole number", list: "a list of texts"}


def _minutes(text: str) -> float:
    """Slurm's time formats: M, M:S, H:M:S, D-H, D-H:M, D-H:M:S."""
    days, dash, rest = text.rpartition("-")
    parts = [int(part) for part in rest.split(":")]
    if len(parts) > 3:
        raise ValueError(text)
    if dash:
        hours, minutes, seconds = [*parts, 0, 0][:3]
    elif len(parts) == 3:
        hours, minutes, seconds = parts
    else:
        hours, (minutes, seconds) = 0, [*parts, 0][:2]
    return ((int(days) if dash else 0) * 24 + hours) * 60 + minutes + seconds / 60
