"""What the page carries of single trials: training curves and logits, thinned to what one sees."""

from typing import Any

import numpy as np

from ablations.analysis.focal_loss import focal_loss, focal_loss_derivative, sigmoid
from ablations.analysis.loss_cdf import merged_bins, read_logits
from ablations.analysis.loss_curve import read_curve
from ablations.analysis.study import Study
from ablations.reporting.figures.loss_shapes import GAMMAS
from ablations.reporting.page.numbers import rounded, significant_all
from ablations.reporting.sections.cdfs import figure_4_trial
from ablations.store.record import CURVE, PROBABILITIES
from ablations.store.states import TrialState

MOST_MODELS = 96
"""Trials whose curves and logits the page carries: the lowest seeds of every cell first."""
POINTS = 100  # of a training curve


def followed_trials(study: Study, labels: list[str]) -> list[TrialState]:
    """The finished trials to carry, that of the report's Figure 4 among them."""
    place = {label: index for index, label in enumerate(labels)}
    finished = [s for s in study.records if s.state == "finished" and s.entry.label in place]
    usual = figure_4_trial(study)
    finished.sort(key=lambda s: (s is not usual, s.entry.seed, place[s.entry.label]))
    return finished[:MOST_MODELS]


def curves_data(trials: list[TrialState]) -> dict[str, Any]:
    """Trial id -> columns of equal length: ``iteration``, ``classification`` and ``boxes`` (losses)
    and ``negatives`` (percent of the classification loss); unreadable files are left out."""
    found = {}
    for state in trials:
        try:
            curve = read_curve(state.folder / CURVE, POINTS)
        except ValueError:  # missing or damaged
            continue
        total = curve["loss_cls_positive"] + curve["loss_cls_negative"]
        share = 100 * curve["loss_cls_negative"] / total.where(total > 0, np.nan)
        found[state.entry.id] = {
            "iteration": [rounded(value, 1) for value in curve["iteration"]],
            "classification": significant_all(curve["loss_cls"]),
            "boxes": significant_all(curve["loss_bbox"]),
            "negatives": significant_all(share, 4),
        }
    return found


def logits_data(trials: list[TrialState]) -> dict[str, Any]:
    """Trial id -> ``positive`` and ``negative``, each with ``logits`` and ``numbers`` (easiest
    first) and ``total``, the windows that the sample stands for."""
    found = {}
    for state in trials:
        try:
            sample = read_logits(state.folder / PROBABILITIES)
        except ValueError:  # missing or damaged
            continue
        if not sample.positive.any() or not sample.negative.any():
            continue
        found[state.entry.id] = {
            name: {
                "logits": [rounded(value, 4) for value in logits],
                "numbers": numbers.tolist(),
                "total": total,
            }
            for name, (logits, numbers), total in (
                ("positive", merged_bins(sample.positive, True), sample.positive_total),
                ("negative", merged_bins(sample.negative, False), sample.negative_total),
            )
        }
    return found


def loss_shapes_data() -> dict[str, list[dict[str, Any]]]:
    """Figure 1 and the derivative for the paper's gammas: rows for the plots, by this package's
    formula."""
    logit = np.linspace(-6.0, 8.0, 141)
    slope = np.linspace(-5.0, 5.0, 101)
    shapes: list[dict[str, Any]] = []
    slopes: list[dict[str, Any]] = []
    for gamma in GAMMAS:
        name = f"γ = {gamma:g}"
        loss = significant_all(focal_loss(logit, gamma))
        p_t = significant_all(sigmoid(logit))
        shapes += [{"p": p, "loss": v, "curve": name} for p, v in zip(p_t, loss, strict=True)]
        change = significant_all(focal_loss_derivative(slope, gamma))
        x_t = significant_all(slope)
        slopes += [{"x": x, "slope": v, "curve": name} for x, v in zip(x_t, change, strict=True)]
    return {"loss": shapes, "slope": slopes}
