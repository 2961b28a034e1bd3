"""How every figure looks, and how it is written: colours that the colour-blind and a grey printer
keep apart, line styles as a second sign, PNG and SVG with the same bytes on every run."""

import gc
import multiprocessing
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

# Okabe and Ito's palette, without its yellow, which vanishes on paper.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)), (0, (7, 2)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
HEAT = "cividis"
GREY = "#6B6B6B"

SETTINGS: dict[Any, Any] = {
    "figure.dpi": 100,
    "savefig.dpi": 160,
    "font.size": 10,
    "font.family": "DejaVu Sans",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "lines.linewidth": 1.8,
    "legend.frameon": False,
    "svg.hashsalt": "loss-ablations",
    "svg.fonttype": "path",
}

_writing: list[multiprocessing.process.BaseProcess] = []


@contextmanager
def house_style() -> Iterator[None]:
    """The settings above, whatever the reader's own matplotlibrc says. At its end all figures are
    written.

    Raises:
        RuntimeError: one could not be written.
    """
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(SETTINGS)
        try:
            yield
        finally:
            for process in _writing:
                process.join()
            failed = [process.name for process in _writing if process.exitcode]
            _writing.clear()
    if failed:
        raise RuntimeError(f"these figures could not be written: {', '.join(failed)}; see above")


def new_figure(width: float, height: float, columns: int = 1, rows: int = 1) -> Figure:
    """A figure of ``width`` x ``height`` inches with ``rows`` x ``columns`` axes."""
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.subplots(rows, columns)
    return figure


def save(figure: Figure, folder: Path, name: str) -> str:
    """Write ``name.png`` and ``name.svg``; returns ``name``. Neither carries a date.

    A process of its own does it, two at a time, since a report's figures take as long as the rest
    of it; not where there are threads, which do not survive a fork.
    """
    if threading.active_count() > 1:
        _write(figure, folder, name)
    else:
        if len(_writing) > 1:
            _writing[-2].join()
        context = multiprocessing.get_context("fork")
        process = context.Process(target=_write_apart, args=(figure, folder, name), name=name)
        process.start()
        _writing.append(process)
    return name


def _write_apart(figure: Figure, folder: Path, name: str) -> None:
    gc.freeze()  # the collector would copy the report's memory by looking at it
    _write(figure, folder, name)


def _write(figure: Figure, folder: Path, name: str) -> None:
    figure.savefig(folder / f"{name}.png", metadata={"Software": None})
    figure.savefig(folder / f"{name}.svg", metadata={"Date": None, "Creator": None})
