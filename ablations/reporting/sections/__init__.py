"""The report's sections in their order; each function builds text, tables and figures."""

from ablations.reporting.sections.breakdown import cost, per_class
from ablations.reporting.sections.cdfs import loss_cdfs
from ablations.reporting.sections.cells import all_cells, table_2
from ablations.reporting.sections.comparisons import comparisons
from ablations.reporting.sections.detectors import detectors
from ablations.reporting.sections.imbalance import imbalance
from ablations.reporting.sections.paper_rows import paper_rows
from ablations.reporting.sections.provenance import incomplete, provenance
from ablations.reporting.sections.section import Section, attempt
from ablations.reporting.sections.sequential import sequential
from ablations.reporting.sections.shapes import loss_shapes
from ablations.reporting.sections.speed import speed
from ablations.reporting.sections.summary import summary
from ablations.reporting.sections.trained import detections, training_curves
from ablations.reporting.sections.tuning import own_best

ALL = (
    summary,
    sequential,
    table_2,
    paper_rows,
    all_cells,
    own_best,
    speed,
    detectors,
    incomplete,
    comparisons,
    imbalance,
    loss_cdfs,
    training_curves,
    detections,
    per_class,
    loss_shapes,
    cost,
    provenance,
)

__all__ = ["ALL", "Section", "attempt"]
