"""The page of the suites that break things on purpose; each writes its own section of it."""

import datetime
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ablations import machine
from ablations.store.files import read_json, write_json, write_text

PAGE = Path(__file__).parents[1] / "reports" / "reliability.md"

SECTIONS = {
    "chaos": (
        "Processes killed at random",
        "`make chaos` runs a small sweep again and again while workers, process groups, the fork "
        "server and the controller get SIGKILL, SIGTERM and SIGSTOP at random. Every record must "
        "equal that of a sweep that nobody disturbed, and no process and no lock may be left.",
    ),
    "fuzz": (
        "Inputs made at random",
        "`make fuzz` gives generated grids, overrides, records, annotation files and settings to "
        "the readers. Each must be accepted, or refused in one line with exit status 2.",
    ),
}
"""Each section's heading and what its suite does, in the page's order."""


def write(section: str, figures: Mapping[str, Any], page: Path = PAGE) -> None:
    """Keep a suite's figures and write the page anew.

    The figures are kept beside the page, in ``reliability/SECTION.json``, with date and machine.

    Args:
        section: one of ``SECTIONS``.
        figures: what was measured, in words, to a number or a text; in the order of the table.
        page: the page.
    """
    if section not in SECTIONS:
        raise ValueError(f"no section {section!r}; valid: {', '.join(SECTIONS)}")
    known = {"date": datetime.date.today().isoformat(), "machine": machine.description()}
    folder = page.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / f"{section}.json", known | {"figures": dict(figures)})
    write_text(page, render(folder))


def render(folder: Path) -> str:
    """The page, from the figures in ``folder``; suites that have not run have no section."""
    lines = ["# What the harness survives", "", "Written by the suites themselves."]
    for section, (title, text) in SECTIONS.items():
        kept = read_json(folder / f"{section}.json")
        if kept is None:
            continue
        lines += ["", f"## {title}", "", text, "", "| | |", "| --- | ---: |"]
        lines += [f"| {name} | {_shown(value)} |" for name, value in kept["figures"].items()]
        lines += [f"| date | {kept['date']} |", f"| machine | {kept['machine']} |"]
    return "\n".join(lines) + "\n"


def _shown(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)
