"""What the paper printed: Lin et al., "Focal Loss for Dense Object Detection", arXiv:1708.02002v2.

Box AP on COCO in percent. Tables 1a to 1d and 3 were measured on minival, Table 1e on test-dev, so
a local run is never compared with Table 1e by a difference. The alpha/gamma ablation that some
sources call "Table 2" is Table 1a and 1b in arXiv v2.
"""

import re
from dataclasses import dataclass
from typing import Any

import pandas as pd

SOURCE = "Lin et al., Focal Loss for Dense Object Detection, arXiv:1708.02002v2"
FIGURES = ("AP", "AP50", "AP75")
_MEASURED = (*FIGURES, "AP_S", "AP_M", "AP_L", "time_ms")


@dataclass(frozen=True)
class PaperTable:
    """One table: ``columns`` name the entries of every row; the last ones are AP in percent."""

    number: str
    caption: str
    setting: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]

    @property
    def coordinates(self) -> tuple[str, ...]:
        """The columns that say which experiment a row is."""
        return tuple(name for name in self.columns if name not in _MEASURED)

    def frame(self) -> pd.DataFrame:
        """The rows as a frame with ``columns``."""
        return pd.DataFrame(list(self.rows), columns=list(self.columns))


TABLE_1A = PaperTable(
    "1a",
    "Varying alpha for CE loss (gamma = 0)",
    "ResNet-50-FPN, 600 px, trained on trainval35k, evaluated on minival",
    ("gamma", "alpha", *FIGURES),
    (
        (0.0, 0.1, 0.0, 0.0, 0.0),
        (0.0, 0.25, 10.8, 16.0, 11.7),
        (0.0, 0.5, 30.2, 46.7, 32.8),
        (0.0, 0.75, 31.1, 49.4, 33.0),
        (0.0, 0.9, 30.8, 49.7, 32.3),
        (0.0, 0.99, 28.7, 47.4, 29.9),
        (0.0, 0.999, 25.1, 41.7, 26.1),
    ),
)
TABLE_1B = PaperTable(
    "1b",
    "Varying gamma for FL, each with its best alpha",
    "ResNet-50-FPN, 600 px, minival",
    ("gamma", "alpha", *FIGURES),
    (
        (0.0, 0.75, 31.1, 49.4, 33.0),
        (0.1, 0.75, 31.4, 49.9, 33.1),
        (0.2, 0.75, 31.9, 50.7, 33.4),
        (0.5, 0.5, 32.9, 51.7, 35.2),
        (1.0, 0.25, 33.7, 52.0, 36.2),
        (2.0, 0.25, 34.0, 52.5, 36.5),
        (5.0, 0.25, 32.2, 49.6, 34.8),
    ),
)
TABLE_1C = PaperTable(
    "1c",
    "Varying anchor scales and aspect ratios",
    "ResNet-50-FPN, 600 px, minival",
    ("scales", "aspect_ratios", *FIGURES),
    (
        (1, 1, 30.3, 49.0, 31.8),
        (2, 1, 31.9, 50.0, 34.0),
        (3, 1, 31.8, 49.4, 33.7),
        (1, 3, 32.4, 52.3, 33.9),
        (2, 3, 34.2, 53.1, 36.5),
        (3, 3, 34.0, 52.5, 36.5),
        (4, 3, 33.8, 52.1, 36.2),
    ),
)
TABLE_1D = PaperTable(
    "1d",
    "FL against OHEM baselines",
    "ResNet-101-FPN, 600 px, minival",
    ("method", "batch_size", "nms_threshold", *FIGURES),
    (
        ("OHEM", 128, 0.7, 31.1, 47.2, 33.2),
        ("OHEM", 256, 0.7, 31.8, 48.8, 33.9),
        ("OHEM", 512, 0.7, 30.6, 47.0, 32.6),
        ("OHEM", 128, 0.5, 32.8, 50.3, 35.1),
        ("OHEM", 256, 0.5, 31.0, 47.4, 33.0),
        ("OHEM", 512, 0.5, 27.6, 42.0, 29.2),
        ("OHEM_1:3", 128, 0.5, 31.1, 47.2, 33.2),
        ("OHEM_1:3", 256, 0.5, 28.3, 42.4, 30.3),
        ("OHEM_1:3", 512, 0.5, 24.0, 35.5, 25.8),
        ("FL", None, None, 36.0, 54.9, 38.7),
    ),
)
TABLE_1E = PaperTable(
    "1e",
    "Accuracy/speed trade-off",
    "RetinaNet, test-dev; time in ms an image on an Nvidia M40",
    ("depth", "scale", *FIGURES, "AP_S", "AP_M", "AP_L", "time_ms"),
    (
        (50, 400, 30.5, 47.8, 32.7, 11.2, 33.8, 46.1, 64),
        (50, 500, 32.5, 50.9, 34.8, 13.9, 35.8, 46.7, 72),
        (50, 600, 34.3, 53.2, 36.9, 16.2, 37.4, 47.4, 98),
        (50, 700, 35.1, 54.2, 37.7, 18.0, 39.3, 46.4, 121),
        (50, 800, 35.7, 55.0, 38.5, 18.9, 38.9, 46.3, 153),
        (101, 400, 31.9, 49.5, 34.1, 11.6, 35.8, 48.5, 81),
        (101, 500, 34.4, 53.1, 36.8, 14.7, 38.5, 49.1, 90),
        (101, 600, 36.0, 55.2, 38.7, 17.4, 39.6, 49.7, 122),
        (101, 700, 37.1, 56.6, 39.8, 19.1, 40.6, 49.4, 154),
        (101, 800, 37.8, 57.5, 40.8, 20.2, 41.1, 49.2, 198),
    ),
)
TABLE_3 = PaperTable(
    "3",
    "FL and CE against the alternate focal loss FL*",
    "ResNet-50-FPN, 600 px, minival; CE is Table 1a's alpha = .75, FL Table 1b's gamma = 2",
    ("loss", "gamma", "alpha", "beta", *FIGURES),
    (
        ("CE", None, 0.75, None, 31.1, 49.4, 33.0),
        ("FL", 2.0, 0.25, None, 34.0, 52.5, 36.5),
        ("FL*", 2.0, None, 1.0, 33.8, 52.7, 36.3),
        ("FL*", 4.0, None, 0.0, 33.9, 51.8, 36.4),
    ),
)
FIGURE_2 = PaperTable(
    "2",
    "Speed against accuracy: other detectors",
    "test-dev; time in ms an image, R-FCN's extrapolated; RetinaNet's points are Table 1e's",
    ("detector", "AP", "time_ms"),
    (
        ("YOLOv2", 21.6, 25),
        ("SSD321", 28.0, 61),
        ("DSSD321", 28.0, 85),
        ("R-FCN", 29.9, 85),
        ("SSD513", 31.2, 125),
        ("DSSD513", 33.2, 156),
        ("FPN FRCN", 36.2, 172),
    ),
)
"""The points beside RetinaNet's curves. It is a figure, so no grid names it as its table. Its inset
prints 73 ms for RetinaNet-50-500, where Table 1e has 72."""

TABLES = {
    table.number: table for table in (TABLE_1A, TABLE_1B, TABLE_1C, TABLE_1D, TABLE_1E, TABLE_3)
}


def table_named(name: str | None) -> PaperTable | None:
    """The table that "1b", "table_1b" or "Table 1b" names; ``None`` for anything else."""
    return TABLES.get(re.sub(r"^table[ _]?", "", str(name or "").lower()))


def gamma_alpha_cells() -> pd.DataFrame:
    """Every (gamma, alpha) pair of Tables 1a and 1b once: ``gamma``, ``alpha``, AP, AP50, AP75."""
    cells = pd.concat([TABLE_1A.frame(), TABLE_1B.frame()], ignore_index=True)
    return cells.drop_duplicates(["gamma", "alpha"])
