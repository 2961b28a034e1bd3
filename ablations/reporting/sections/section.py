"""What a section of the report is made of."""

from dataclasses import dataclass, field

from ablations.reporting.tables import Table, to_markdown


@dataclass(frozen=True)
class Section:
    """Markdown ``text`` (empty: leave the section out) and the tables to write beside it."""

    text: str
    tables: list[Table] = field(default_factory=list)


def heading(title: str) -> str:
    return f"## {title}"


def paragraphs(*parts: str) -> str:
    """The parts that are not empty, a blank line between them."""
    return "\n\n".join(part for part in parts if part)


def shown(table: Table) -> str:
    """A table in the text: its caption, itself, and where its numbers are."""
    files = f"[CSV](tables/{table.name}.csv), [LaTeX](tables/{table.name}.tex)"
    return f"*{table.caption}* ({files})\n\n{to_markdown(table.text)}"


def picture(name: str, description: str) -> str:
    """A figure in the text, with its vector form."""
    return f"![{description}](figures/{name}.png)\n\n*{description}* ([SVG](figures/{name}.svg))"
