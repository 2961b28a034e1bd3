"""Accuracy against speed: the paper's Figure 2 and Table 1e, as measured here."""

import pandas as pd

from ablations.analysis.detectors import detector_frame
from ablations.analysis.study import Study
from ablations.reporting.figures.speed import plot_speed
from ablations.reporting.figures.style import new_figure
from ablations.reporting.figures.writer import FigureWriter
from ablations.reporting.sections.section import Section, heading, paragraphs, picture, shown
from ablations.reporting.table_formats import Table, number, plain


def speed(study: Study, figures: FigureWriter) -> Section:
    """AP and the time of one image, for a grid over backbone depth and image scale."""
    if not {"depth", "scale"} <= set(study.axes):
        return Section("")
    frame = detector_frame(study).dropna(subset=["inference_ms"])
    if frame.empty:
        return Section("")
    data = pd.DataFrame([study.points[str(label)] for label in frame.index], index=frame.index)
    data[["AP", "inference_ms"]] = frame[["AP", "inference_ms"]]
    text = pd.DataFrame({name: [plain(v) for v in data[name]] for name in ("depth", "scale")})
    text["AP"] = [number(value) for value in data["AP"]]
    text["ms an image"] = [number(value) for value in data["inference_ms"]]
    table = Table(
        "speed",
        "Box AP in percent, and the time of one image through the network and its "
        "post-processing, without reading it: the fastest of five repeats, median over twenty "
        "images, the fastest trial of a cell",
        text,
        data.reset_index(names="cell"),
    )
    figure = new_figure(6.0, 3.6)
    plot_speed(figure.axes[0], data)
    name = figures.save(figure, "figure_2_speed")
    described = "AP against the time of one image, a line for each backbone depth (Figure 2)"
    note = (
        "The paper's times are of another GPU and another program, so only the shape can be "
        "compared. Trials that run side by side on one machine slow each other down, which repeats "
        "do not undo: these times mean something if the sweep ran with `--workers 1`."
    )
    return Section(
        paragraphs(heading("Accuracy against speed"), shown(table), picture(name, described), note),
        [table],
    )
