"""Figures are written whole, or the report says which was not."""

import threading
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ablations.reporting.figures.style import house_style, new_figure
from ablations.reporting.figures.writer import FigureWriter
from ablations.reporting.sections.comparisons import _figure


def written(folder: Path) -> dict[str, bytes]:
    with house_style(), FigureWriter(folder) as figures:
        for name in ("one", "two"):
            figure = new_figure(3, 2)
            figure.axes[0].plot([1, 2], [3, 4], label=name)
            assert figures.save(figure, name) == name
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_figures_are_there_and_the_same_with_and_without_processes(tmp_path: Path) -> None:
    apart = written(tmp_path / "apart")
    assert set(apart) == {"one.png", "one.svg", "two.png", "two.svg"}
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    try:
        assert written(tmp_path / "here") == apart
    finally:
        done.set()
        thread.join()


def test_a_figure_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(RuntimeError, match="could not be written: none/lost"),
        FigureWriter(tmp_path) as figures,
    ):
        figures.save(new_figure(3, 2), "none/lost")


@pytest.mark.parametrize("length", [2, 24, 50])
def test_the_legend_of_differences_is_whole(length: int) -> None:
    labels = ["x" * length, "y" * length]
    rows = pd.DataFrame(
        {"label": labels, "difference": [-4.3, 0.1], "half_seeds": 0.5, "half_total": 0.9}
    )
    drawn = []

    class Writer:
        def save(self, figure: Figure, name: str) -> str:
            drawn.append(figure)
            return name

    with house_style():
        _figure(SimpleNamespace(baseline="FL"), rows, Writer())
        (figure,) = drawn
        FigureCanvasAgg(figure).draw()
        legend = figure.axes[0].get_legend().get_window_extent()
    assert legend.x0 >= 0 and legend.x1 <= figure.bbox.x1
