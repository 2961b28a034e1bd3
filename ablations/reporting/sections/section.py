"""The parts of a report's section."""

from collections.abc import Callable
from dataclasses import dataclass, field

from ablations.analysis.study import Study
from ablations.reporting.figures.writer import FigureWriter
from ablations.reporting.table_formats import Table, to_markdown


@dataclass(frozen=True)
class Section:
    """Markdown ``text`` (empty: leave the section out) and the tables to write beside it."""

    text: str
    tables: list[Table] = field(default_factory=list)


Builder = Callable[[Study, FigureWriter], Section]


def attempt(build: Builder, study: Study, figures: FigureWriter) -> Section:
    """The section, or, where a file that it needs cannot be read, a line that says so."""
    try:
        return build(study, figures)
    except (ValueError, OSError, KeyError, IndexError) as error:
        title = build.__name__.replace("_", " ").capitalize()
        return Section(paragraphs(heading(title), f"Left out: {one_line(error)}."))


def one_line(error: Exception) -> str:
    """An exception for readers of the report."""
    text = " ".join(str(error).split()).rstrip(".")
    return f"no {text}" if isinstance(error, KeyError) else text


def heading(title: str) -> str:
    return f"## {title}"


def paragraphs(*parts: str) -> str:
    """The parts that are not empty, a blank line between them."""
    return "\n\n".join(part for part in parts if part)


MOST_ROWS = 200
"""Rows of a table in the text at most; its files have all."""


def shown(table: Table) -> str:
    """A table in the text: caption, links to its files, and rows."""
    files = f"[CSV](tables/{table.name}.csv), [LaTeX](tables/{table.name}.tex)"
    rows = len(table.text)
    cut = f"The first {MOST_ROWS} of {rows} rows; the files have all." if rows > MOST_ROWS else ""
    return paragraphs(f"*{table.caption}* ({files})", to_markdown(table.text[:MOST_ROWS]), cut)


def picture(name: str, description: str) -> str:
    """A figure in the text, with its vector form."""
    return f"![{description}](figures/{name}.png)\n\n*{description}* ([SVG](figures/{name}.svg))"
