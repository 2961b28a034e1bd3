"""A table in its three written forms: markdown, CSV and LaTeX (booktabs)."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

MISSING = "-"


@dataclass(frozen=True)
class Table:
    """``text`` is what people read, all cells strings; ``data`` is the same unrounded, for CSV.
    ``name`` is the file's stem; ``caption`` states the unit."""

    name: str
    caption: str
    text: pd.DataFrame
    data: pd.DataFrame


def number(value: float | None, digits: int = 1) -> str:
    """``value`` with ``digits`` decimals, or a dash where there is none."""
    return MISSING if value is None or not np.isfinite(value) else f"{value:.{digits}f}"


def signed(value: float | None, digits: int = 1) -> str:
    """Like ``number``, always with its sign."""
    return MISSING if value is None or not np.isfinite(value) else f"{value:+.{digits}f}"


def with_half_width(mean: float, half: float, digits: int = 1, sign: bool = False) -> str:
    """``mean ± half``; the mean alone if there is no interval."""
    shown = signed(mean, digits) if sign else number(mean, digits)
    return f"{shown} ± {half:.{digits}f}" if np.isfinite(half) else shown


def plain(value: object) -> str:
    """A coordinate in short form: 2 for 2.0, a dash for a missing one."""
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return MISSING
    return f"{value:g}" if isinstance(value, float) else str(value)


def to_markdown(text: pd.DataFrame) -> str:
    """A pipe table; numbers to the right, the first column to the left."""
    header = [_escape(str(column)) for column in text.columns]
    rows = [[_escape(str(value)) for value in row] for row in text.itertuples(index=False)]
    rule = ["---"] + ["---:"] * (len(header) - 1)
    lines = [header, rule, *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def to_latex(table: Table) -> str:
    """A booktabs table with caption and label."""
    columns = "l" + "r" * (len(table.text.columns) - 1)
    rows = [
        " & ".join(_tex(str(value)) for value in row) + r" \\"
        for row in table.text.itertuples(index=False)
    ]
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_tex(table.caption)}}}",
        rf"\label{{tab:{table.name}}}",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        " & ".join(_tex(str(column)) for column in table.text.columns) + r" \\",
        r"\midrule",
        *rows,
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def write_table(table: Table, folder: Path) -> None:
    """``folder/<name>.csv`` and ``folder/<name>.tex``."""
    table.data.to_csv(folder / f"{table.name}.csv", index=False)
    (folder / f"{table.name}.tex").write_text(to_latex(table), encoding="utf-8")


def _escape(text: str) -> str:
    return text.replace("|", r"\|").replace("\n", " ")


_TEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "&": r"\&",
        "%": r"\%",
        "$": r"\$",
        "#": r"\#",
        "_": r"\_",
        "{": r"\{",
        "}": r"\}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "±": r"$\pm$",
        "≥": r"$\geq$",
        "≤": r"$\leq$",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
    }
)


def _tex(text: str) -> str:
    return text.translate(_TEX)
