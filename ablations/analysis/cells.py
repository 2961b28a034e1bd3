"""The cells of a grid: mean and interval over seeds, and what is missing."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from ablations.analysis.seeds import seed_interval
from ablations.analysis.study import Study, gamma_alpha_labels
from ablations.sweep.record import METRICS


def cell_frame(study: Study) -> pd.DataFrame:
    """One row a cell, in planned order, indexed by label.

    Columns: ``planned`` and ``finished`` (numbers of trials); for every metric M of COCO's six, in
    percent over the finished trials, ``M`` (mean), ``M_sd`` (of one seed), ``M_low`` and
    ``M_high`` (95 % Student t interval; NaN for one seed); ``problems``: what keeps it from being
    complete, such as "1 of 3 diverged", empty if nothing does.
    """
    rows = []
    for label, trials in study.trials.groupby("label", sort=False):
        finished = trials[trials["state"] == "finished"]
        row: dict[str, object] = {
            "label": label,
            "planned": len(trials),
            "finished": len(finished),
        }
        for metric in METRICS:
            estimate = seed_interval(finished[metric].to_numpy())
            row |= {
                metric: estimate.mean,
                f"{metric}_sd": estimate.sd,
                f"{metric}_low": estimate.low,
                f"{metric}_high": estimate.high,
            }
        row["problems"] = _problems(trials["state"])
        rows.append(row)
    return pd.DataFrame(rows).set_index("label").reindex(study.labels)


def _problems(states: pd.Series) -> str:
    counts = states[states != "finished"].value_counts(sort=False)
    total = len(states)
    parts = [f"{count} of {total} {state}" for state, count in counts.items()]
    return ", ".join(parts)


@dataclass(frozen=True)
class BestAlpha:
    """The alpha with the highest mean AP at one gamma; ``None`` where no trial finished. ``tried``
    is the number of alphas it was the best of."""

    gamma: float
    alpha: float | None
    label: str | None
    tried: int


def best_alpha_by_gamma(study: Study, cells: pd.DataFrame) -> list[BestAlpha]:
    """Table 2: for every gamma, ascending, the best alpha by ``cells["AP"]``."""
    pairs = gamma_alpha_labels(study)
    best = []
    for gamma in sorted({gamma for gamma, _ in pairs}):
        scored = [
            (float(cells["AP"][pairs[g, alpha]]), -alpha, pairs[g, alpha])
            for g, alpha in pairs
            if g == gamma and np.isfinite(cells["AP"][pairs[g, alpha]])
        ]
        if scored:
            _, negated, label = max(scored)  # of two equal ones the smaller alpha
            best.append(BestAlpha(gamma, -negated, label, len(scored)))
        else:
            best.append(BestAlpha(gamma, None, None, 0))
    return best
