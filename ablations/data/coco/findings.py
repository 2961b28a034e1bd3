"""What a check finds in one annotation file: mistakes that refuse it, and what was mended."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


class RefusedError(ValueError):
    """The file cannot be read far enough to look for more; the message names the mend."""


@dataclass
class Findings:
    """Errors and notes about ``file``, each a phrase about one kind of mistake with its count."""

    file: Path
    errors: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    changed: bool = False  # whether the checked content differs from the file's

    def refuse(self, what: str, mend: str) -> None:
        """The file cannot be used as it is; ``mend`` says what to do about it."""
        self.errors.append(f"{what}: {mend}")

    def mended(self, what: str) -> None:
        """Something was put right, or left out, in the checked content."""
        self.notes.append(what)
        self.changed = True

    def note(self, what: str) -> None:
        """Something a researcher wants to know, with nothing changed."""
        self.notes.append(what)

    @property
    def error(self) -> str | None:
        """All mistakes of the file in one line, or ``None``."""
        return f"{self.file}: {'; '.join(self.errors)}" if self.errors else None


def counted(number: int, noun: str) -> str:
    """``1 box``, ``3 boxes``."""
    plural = noun + ("es" if noun.endswith("x") else "s")
    return f"{number:,} {noun if number == 1 else plural}"


def first(kind: str, index: int, entries: Sequence[Any], more: str = "") -> str:
    """Names one entry in brackets, by its place in the file's list (from 0) and its id."""
    entry = entries[index]
    has_id = isinstance(entry, Mapping) and "id" in entry
    named = f"{kind}[{index}]" + (f", id {entry['id']!r}" if has_id else "")
    return f"(first: {named}{', ' + more if more else ''})"


def some(names: Sequence[Any], limit: int = 12) -> str:
    """Names in a row, cut where there are many."""
    shown = ", ".join(repr(name) for name in names[:limit])
    return shown + (f" and {len(names) - limit} more" if len(names) > limit else "")
