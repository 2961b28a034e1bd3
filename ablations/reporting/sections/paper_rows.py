"""The paper's table beside the grid that answers it, row by row."""

import pandas as pd

from ablations.analysis.cells import cell_frame
from ablations.analysis.paper import FIGURES, TABLE_1B, table_named
from ablations.analysis.study import Study, paper_labels
from ablations.reporting.figures.writer import FigureWriter
from ablations.reporting.sections.cells import OTHER_PROTOCOL
from ablations.reporting.sections.section import Section, heading, paragraphs, shown
from ablations.reporting.table_formats import MISSING, Table, number, plain


def paper_rows(study: Study, figures: FigureWriter) -> Section:
    """Every row of the paper's table, with this sweep's AP where it has that very point.

    Table 1b has a section of its own (``cells.table_2``).
    """
    table = table_named(study.manifests[0].grid.get("table"))
    if table is None or table is TABLE_1B:
        return Section("")
    cells = cell_frame(study)
    data = table.frame().rename(columns={name: f"paper_{name}" for name in FIGURES})
    labels = paper_labels(study, table)
    data["cell"] = labels
    for metric in FIGURES:
        data[metric] = [cells[metric].get(label) if label else None for label in labels]
    text = pd.DataFrame(
        {name: [plain(value) for value in data[name]] for name in table.coordinates}
    )
    for metric in FIGURES:
        text[metric] = [number(value) for value in data[metric].astype(float)]
    for name in table.columns[len(table.coordinates) :]:
        column = f"paper_{name}" if name in FIGURES else name
        text[f"paper's {name}"] = [plain(value) for value in data[column]]
    caption = (
        f"Table {table.number} of the paper, {table.caption} ({table.setting}), and this sweep"
    )
    made = Table(f"paper_table_{table.number}", caption, text, data)
    missing = sum(label is None for label in labels)
    note = (
        f"{missing} of its {len(labels)} rows are at points that this sweep does not have "
        f"({MISSING}); every cell of the sweep is in the next table."
        if missing
        else ""
    )
    title = heading(f"Beside the paper's Table {table.number}")
    return Section(paragraphs(title, _levels(study), shown(made), note), [made])


def _levels(study: Study) -> str:
    names = {str(s.record.data.get("name", "")).lower() for s in study.records if s.record}
    return "" if names and all(name.startswith("coco") for name in names) else OTHER_PROTOCOL
