"""Figure 4: the distribution of a converged model's loss over its samples."""

import pandas as pd

from ablations.analysis.loss_cdf import FIGURE_4_GAMMAS, LogitSample, loss_shares, read_logits
from ablations.analysis.study import Study
from ablations.reporting.figures.loss_cdfs import plot_loss_cdf
from ablations.reporting.figures.style import new_figure
from ablations.reporting.figures.writer import FigureWriter
from ablations.reporting.sections.section import (
    Section,
    heading,
    one_line,
    paragraphs,
    picture,
    shown,
)
from ablations.reporting.table_formats import Table, number, plain
from ablations.store.record import PROBABILITIES
from ablations.store.states import TrialState

TITLE = "Loss CDFs (Figure 4)"
USUAL = (2.0, 0.25)


def figure_4_trial(study: Study) -> TrialState | None:
    """A trial of the lowest seed trained with focal loss of gamma = 2 and alpha = 0.25, the best
    if there are several; failing that the best with focal loss of gamma = 2; failing that the best
    of all; among those that kept their logits."""
    kept = [
        state
        for state in study.records
        if state.state == "finished" and (state.folder / PROBABILITIES).is_file()
    ]
    at_usual = [state for state in kept if _focal(state) == USUAL]
    if at_usual:
        return min(at_usual, key=lambda state: (state.entry.seed, -_ap(state)))
    at_two = [state for state in kept if _focal(state)[0] == USUAL[0]]
    return max(at_two or kept, key=_ap, default=None)


def _focal(state: TrialState) -> tuple[float | None, float | None]:
    """gamma and alpha of the focal loss that a trial was trained with; ``None`` for another's."""
    loss = state.record.loss if state.record is not None else {}
    if str(loss.get("type")).rpartition(".")[-1] != "FocalLoss":
        return None, None
    return loss.get("gamma", USUAL[0]), loss.get("alpha", USUAL[1])


def loss_cdfs(study: Study, figures: FigureWriter) -> Section:
    """The CDF figure of one model, and the shares of the loss that the paper mentions."""
    state = figure_4_trial(study)
    if state is None:
        return Section(
            paragraphs(heading(TITLE), "No finished trial kept the logits that this needs.")
        )
    try:
        sample = read_logits(state.folder / PROBABILITIES)
    except ValueError as error:
        return Section(paragraphs(heading(TITLE), f"Left out: {one_line(error)}."))
    if not sample.positive.any() or not sample.negative.any():
        return Section(
            paragraphs(heading(TITLE), f"`{state.entry.label}` has no sampled windows to plot.")
        )
    figure = new_figure(8.0, 3.6, columns=2)
    plot_loss_cdf(figure.axes[0], sample.positive, positive=True)
    plot_loss_cdf(figure.axes[1], sample.negative, positive=False)
    name = figures.save(figure, "figure_4_loss_cdfs")
    table = _shares(sample)
    return Section(
        paragraphs(
            heading(TITLE),
            _about(state, sample),
            picture(
                name,
                "Cumulative share of the normalised loss, samples ordered from the lowest loss to "
                "the highest; only the gamma of the computed loss changes, the model stays",
            ),
            shown(table),
        ),
        [table],
    )


def _about(state: TrialState, sample: LogitSample) -> str:
    note = (
        ""
        if _focal(state)[0] == USUAL[0]
        else " The paper uses a model trained with gamma = 2; none has finished here."
    )
    return (
        f"The model is `{state.entry.label}`, seed {state.entry.seed} (trial `{state.entry.id}`), "
        f"applied to its validation images. Of {sample.positive_total:,} positive and "
        f"{sample.negative_total:,} negative windows (anchor-class pairs; ignored anchors left "
        f"out) {sample.positive.sum():,} and {sample.negative.sum():,} were sampled.{note}"
    )


def _shares(sample: LogitSample) -> Table:
    data = pd.DataFrame(loss_shares(sample, FIGURE_4_GAMMAS))
    text = pd.DataFrame(
        {
            "gamma": [plain(gamma) for gamma in data["gamma"]],
            "hardest 20 % of positives": [f"{number(v)} %" for v in data["positives"]],
            "hardest 1 % of negatives": [f"{number(v)} %" for v in data["negatives"]],
        }
    )
    return Table("loss_shares", "Share of the loss, in percent, held by", text, data)


def _ap(state: TrialState) -> float:
    value = state.record.metrics.get("AP") if state.record is not None else None
    return -1.0 if value is None else value
