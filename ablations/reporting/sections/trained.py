"""Training curves, and detections on a few images."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ablations.analysis.loss_curve import read_curve
from ablations.analysis.study import Study
from ablations.reporting.figures.detections import SCORE, Boxes, plot_boxes
from ablations.reporting.figures.loss_curves import plot_loss, plot_negative_share
from ablations.reporting.figures.style import new_figure
from ablations.reporting.figures.writer import FigureWriter
from ablations.reporting.sections.cdfs import figure_4_trial
from ablations.reporting.sections.section import Section, heading, one_line, paragraphs, picture
from ablations.reporting.validation_images import (
    chosen_images,
    images_folder,
    validation_truth,
)
from ablations.store.arrays import read_arrays
from ablations.store.record import CURVE, PREDICTION_COLUMNS, PREDICTIONS
from ablations.store.states import TrialState

IMAGES = 3


def compared_trials(study: Study) -> list[TrialState]:
    """Two trials of one seed to look at closely: the baseline's (or else the worst cell's), and the
    usual focal loss's (``figure_4_trial``); fewer where they did not finish."""
    usual = figure_4_trial(study)
    finished = [state for state in study.records if state.state == "finished"]
    if usual is None:
        usual = finished[0] if finished else None
    if usual is None:
        return []
    seed = usual.entry.seed
    means = study.values().mean(axis=1).dropna()
    other = study.baseline if study.baseline in means.index else str(means.idxmin())
    against = study.state_of(str(other), seed)
    pair = [against, usual] if against is not None and against.state == "finished" else [usual]
    return [state for i, state in enumerate(pair) if state is not None and state not in pair[:i]]


def training_curves(study: Study, figures: FigureWriter) -> Section:
    """Losses by iteration, and the negatives' share in them."""
    trials = [state for state in compared_trials(study) if (state.folder / CURVE).is_file()]
    title = heading("Training")
    if not trials:
        return Section("")
    curves, left_out = {}, []
    for state in trials:
        try:
            curves[state.entry.label] = read_curve(state.folder / CURVE)
        except ValueError as error:
            left_out.append(f"Left out: {one_line(error)}.")
    if not curves:
        return Section(paragraphs(title, *left_out))
    figure = new_figure(8.5, 3.4, columns=2)
    plot_loss(figure.axes[0], curves)
    plot_negative_share(figure.axes[1], curves)
    name = figures.save(figure, "training_curves")
    return Section(
        paragraphs(
            title,
            picture(
                name,
                f"Training losses of seed {trials[0].entry.seed}, averaged over short stretches, "
                "and the share of the classification loss that comes from negative anchors. Losses "
                "of different gamma have different scales: compare shares, not levels",
            ),
            *left_out,
        )
    )


def detections(study: Study, figures: FigureWriter) -> Section:
    """A few validation images with the truth and what each of two trials finds."""
    title = heading("Detections")
    trials = [state for state in compared_trials(study) if (state.folder / PREDICTIONS).is_file()]
    if not trials:
        return Section(paragraphs(title, "No finished trial kept its predictions."))
    try:
        truth = validation_truth(trials[0])
    except ValueError as error:
        return Section(paragraphs(title, f"Left out: {one_line(error)}."))
    folder = images_folder(trials[0])
    if truth is None or folder is None:
        return Section(
            paragraphs(
                title,
                "Left out: the validation images that the trials were scored on are not at hand.",
            )
        )
    chosen = chosen_images(truth, folder, IMAGES)
    if not chosen:
        return Section(
            paragraphs(title, f"Left out: none of the images could be read in `{folder}`.")
        )
    found, left_out = [], []
    for state in trials:
        try:
            found.append((state, read_arrays(state.folder / PREDICTIONS, PREDICTION_COLUMNS)))
        except ValueError as error:
            left_out.append(f"Left out: {one_line(error)}.")
    if not found:
        return Section(paragraphs(title, *left_out))
    trials = [state for state, _ in found]
    figure = new_figure(2.2 * (1 + len(trials)), 2.35 * len(chosen), 1 + len(trials), len(chosen))
    axes = iter(figure.axes)
    names = {category["id"]: category["name"] for category in truth["categories"]}
    for image, pixels in chosen:
        plot_boxes(next(axes), pixels, _true_boxes(truth, image["id"], names), "truth")
        for state, arrays in found:
            plot_boxes(
                next(axes), pixels, _found_boxes(arrays, image["id"], names), state.entry.label
            )
    name = figures.save(figure, "detections")
    return Section(
        paragraphs(
            title,
            picture(
                name,
                f"The first {len(chosen)} validation images with two objects or more: truth, and "
                f"detections scored at least {SCORE:g}, seed {trials[0].entry.seed}",
            ),
            *left_out,
        )
    )


def _true_boxes(truth: dict[str, Any], image_id: int, names: dict[int, str]) -> Boxes:
    entries = [entry for entry in truth["annotations"] if entry["image_id"] == image_id]
    return Boxes(
        np.array([entry["bbox"] for entry in entries], dtype=np.float64),
        [_class_name(names, entry["category_id"]) for entry in entries],
    )


def _class_name(names: dict[int, str], category: int) -> str:
    return names.get(category, f"category {category}")


def _found_boxes(arrays: dict[str, NDArray[Any]], image_id: int, names: dict[int, str]) -> Boxes:
    kept = np.flatnonzero(arrays["image_id"] == image_id)
    kept = kept[np.argsort(arrays["score"][kept], kind="stable")]
    return Boxes(
        arrays["bbox"][kept],
        [_class_name(names, int(category)) for category in arrays["category_id"][kept]],
        arrays["score"][kept],
    )
