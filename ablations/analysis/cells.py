"""The cells of a grid: mean and interval over seeds, and what is missing."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ablations.analysis.seeds import adjusted_means, seed_interval, unequal_seeds
from ablations.analysis.study import Study, gamma_alpha_labels
from ablations.store.record import METRICS


def cell_frame(study: Study) -> pd.DataFrame:
    """One row a cell, in planned order, indexed by label.

    Columns: ``planned`` and ``finished`` (numbers of trials); for every metric M of COCO's six, in
    percent over the finished trials, ``M`` (mean), ``M_sd`` (of one seed), ``M_low`` and
    ``M_high`` (95 % Student t interval; NaN for one seed); ``problems``: what keeps it from being
    complete, such as "1 of 3 diverged", empty if nothing does.
    """
    frame = pd.DataFrame(index=pd.Index(study.labels, name="label"))
    frame["planned"] = study.trials.groupby("label").size()
    frame["finished"] = study.finished.groupby("label").size().reindex(frame.index, fill_value=0)
    for metric in METRICS:
        estimate = seed_interval(study.values(metric))
        frame[metric], frame[f"{metric}_sd"] = estimate.mean, estimate.sd
        frame[f"{metric}_low"], frame[f"{metric}_high"] = estimate.low, estimate.high
    frame["problems"] = _problems(study.trials).reindex(frame.index, fill_value="")
    return frame


def metric_values(study: Study) -> tuple[list[str], NDArray[np.float64]]:
    """Every metric of every finished trial, in percent: the names, COCO's six and then the classes,
    and float64 [metrics, cells, seeds], NaN where there is no value."""
    records = [state.record for state in study.states if state.record is not None]
    finished = [record for record in records if record.status == "finished"]
    classes = list(dict.fromkeys(name for record in finished for name in record.per_class))
    row = {label: index for index, label in enumerate(study.labels)}
    column = {seed: index for index, seed in enumerate(study.seeds)}
    values = np.full((len(METRICS) + len(classes), len(row), len(column)), np.nan)
    for record in finished:
        own = [record.metrics.get(name) for name in METRICS]
        own += [record.per_class.get(name) for name in classes]
        # None becomes NaN.
        values[:, row[record.label], column[record.seed]] = np.array(own, dtype=np.float64)
    return [*METRICS, *classes], values


def _problems(trials: pd.DataFrame) -> pd.Series:
    """By label, for the cells that have any."""
    lacking = trials[trials["state"] != "finished"]
    planned = trials.groupby("label").size()
    parts: dict[str, list[str]] = {}
    for (label, state), count in lacking.groupby(["label", "state"], sort=False).size().items():
        parts.setdefault(label, []).append(f"{count} of {planned[label]} {state}")
    return pd.Series({label: ", ".join(found) for label, found in parts.items()}, dtype=object)


@dataclass(frozen=True)
class BestAlpha:
    """The alpha with the highest mean AP at one gamma; ``None`` where no trial finished. ``tried``
    is the number of alphas it was the best of."""

    gamma: float
    alpha: float | None
    label: str | None
    tried: int


def best_alpha_by_gamma(study: Study, cells: pd.DataFrame) -> list[BestAlpha]:
    """Table 2: for every gamma, ascending, the best alpha by the mean AP (``adjusted_means``, where
    the cells have unequal seeds; otherwise ``cells["AP"]``)."""
    pairs = gamma_alpha_labels(study)
    values = study.values()
    mean = (adjusted_means(values) if unequal_seeds(values) else cells["AP"]).to_dict()
    tried: dict[float, list[tuple[float, float, str]]] = {gamma: [] for gamma, _ in sorted(pairs)}
    for (gamma, alpha), label in pairs.items():
        if np.isfinite(ap := float(mean[label])):
            tried[gamma].append((ap, -alpha, label))  # of two equal ones the smaller alpha
    best = []
    for gamma, scored in tried.items():
        if scored:
            _, negated, label = max(scored)
            best.append(BestAlpha(gamma, -negated, label, len(scored)))
        else:
            best.append(BestAlpha(gamma, None, None, 0))
    return best
