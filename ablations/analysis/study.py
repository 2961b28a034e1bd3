"""A study: the trials of one or several sweeps, grouped into the cells of a grid."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ablations.analysis import paper
from ablations.analysis.decisions import Decisions, decide, outcomes, read_design
from ablations.analysis.frames import Sweeps, point_columns, read_sweeps, trial_frame
from ablations.analysis.merge import merge_sweeps
from ablations.store.choosing import chosen
from ablations.store.manifest import Manifest
from ablations.store.states import TrialState

PLAIN_CE = frozenset({"ce", "plain ce", "cross entropy", "crossentropyloss", "cross_entropy"})


@dataclass(frozen=True)
class Study:
    """Everything a report is made of.

    ``trials`` has one row a planned trial (``frames.trial_frame``). ``labels`` are the cells in
    planned order, ``points`` their coordinates, ``axes`` the coordinates' columns. ``baseline`` is
    the cell that differences are taken against, or ``None``.
    """

    manifests: list[Manifest]
    states: list[TrialState]
    trials: pd.DataFrame
    labels: list[str]
    points: dict[str, dict[str, Any]]
    axes: list[str]
    baseline: str | None
    decided: Decisions | None = None  # of a sequential sweep, over all of its cells
    only: tuple[str, ...] = ()  # terms that chose the cells, of the ``whole`` number
    whole: int = 0

    @property
    def finished(self) -> pd.DataFrame:
        """The rows of ``trials`` that finished."""
        return self.trials[self.trials["state"] == "finished"]

    @property
    def seeds(self) -> list[int]:
        """All planned seeds, ascending."""
        return sorted(int(seed) for seed in self.trials["seed"].unique())

    def values(self, metric: str = "AP") -> pd.DataFrame:
        """``metric`` of the finished trials in percent: one row a cell, one column a seed."""
        wide = self.finished.pivot(index="label", columns="seed", values=metric)
        return wide.reindex(index=self.labels, columns=self.seeds)

    @property
    def records(self) -> list[TrialState]:
        """The states that have a record, in planned order."""
        return [state for state in self.states if state.record is not None]

    @property
    def finished_states(self) -> list[TrialState]:
        """The states that finished, in planned order."""
        return [state for state in self.records if state.state == "finished"]

    def state_of(self, label: str, seed: int) -> TrialState | None:
        """The trial of a cell and seed, if it was planned."""
        for state in self.states:
            if state.entry.label == label and state.entry.seed == seed:
                return state
        return None


def load_study(
    work_dirs: Iterable[Path], baseline: str | None = None, only: Sequence[str] = ()
) -> Study:
    """Read and merge sweeps into one study.

    Args:
        work_dirs: work directories of the sweeps.
        baseline: label of the cell to compare with; by default the grid's own, or else plain CE,
            where there is one.
        only: terms that choose cells (``store.choosing``); all by default.

    Raises:
        ValueError: a folder is no sweep, the sweeps do not fit together, there is no such label, or
            ``only`` is not valid.
    """
    sweeps: Sweeps = merge_sweeps(read_sweeps(work_dirs))
    decided = _decided(sweeps)
    whole = len({state.entry.label for _, trials_of in sweeps for state in trials_of})
    sweeps = _only(sweeps, only)
    trials = trial_frame(sweeps)
    states = [state for _, trials_of in sweeps for state in trials_of]
    points = {state.entry.label: state.entry.point for state in states}
    labels = list(points)
    if baseline is not None and baseline not in points:
        raise ValueError(f"no cell is labelled {baseline!r}; the labels are {', '.join(labels)}")
    if baseline is None:
        own = (manifest.grid.get("baseline") for manifest, _ in sweeps)
        baseline = next((label for label in own if label in points), None)
    if baseline is None:
        baseline = next((label for label in labels if is_plain_ce(label, points[label])), None)
    axes = list(point_columns(points.values()).values())
    manifests = [manifest for manifest, _ in sweeps]
    return Study(
        *(manifests, states, trials, labels, points, axes, baseline, decided, tuple(only), whole)
    )


def _only(sweeps: Sweeps, only: Sequence[str]) -> Sweeps:
    """The sweeps with the trials of the cells that the terms choose."""
    every = [state for _, states in sweeps for state in states]
    kept = {id(state) for state in chosen(only, every)}
    return [
        (manifest, [state for state in states if id(state) in kept]) for manifest, states in sweeps
    ]


def _decided(sweeps: Sweeps) -> Decisions | None:
    """The state of a sequential sweep; ``None`` for fixed designs.

    Raises:
        ValueError: a sequential sweep is to be merged with another.
    """
    found = [manifest for manifest, _ in sweeps if manifest.decide is not None]
    if not found:
        return None
    if len(sweeps) > 1:
        names = ", ".join(manifest.sweep for manifest in found)
        raise ValueError(
            f"{names}: a sweep with --decide is reported by itself, since its looks and its error "
            "rate hold for its own trials"
        )
    [(manifest, states)] = sweeps
    return decide(read_design(manifest.decide or {}), outcomes(states))


def is_plain_ce(label: str, point: dict[str, Any]) -> bool:
    """Whether a cell is cross entropy without alpha: by its ``loss``, or else by its label."""
    if "gamma" in point or "alpha" in point:
        return False
    return str(point.get("loss", label)).lower() in PLAIN_CE


def gamma_alpha_labels(study: Study) -> dict[tuple[float, float], str]:
    """The cells that are a gamma and an alpha and nothing else: (gamma, alpha) -> label."""
    found: dict[tuple[float, float], str] = {}
    for label, point in study.points.items():
        plain = {name for name in point if name != "loss"} == {"gamma", "alpha"}
        numbers = plain and all(isinstance(point[name], int | float) for name in ("gamma", "alpha"))
        if numbers:
            found[float(point["gamma"]), float(point["alpha"])] = label
    losses = {study.points[label].get("loss") for label in found.values()}
    return found if len(losses) <= 1 else {}


def paper_figures(study: Study) -> pd.DataFrame:
    """The paper's AP, AP50, AP75 of the study's cells: one row a cell that the paper has.

    gamma x alpha cells are looked up in Tables 1a and 1b; another grid in the table that its
    manifest names (``grid["table"]``), where the grid has that table's coordinates.
    """
    pairs = gamma_alpha_labels(study)
    if pairs:
        cells = paper.gamma_alpha_cells().assign(table="1a/1b")
        lookup = {(row.gamma, row.alpha): row for row in cells.itertuples(index=False)}
        rows = {label: lookup[pair] for pair, label in pairs.items() if pair in lookup}
        figures = [
            [label, *(getattr(row, m) for m in paper.FIGURES)] for label, row in rows.items()
        ]
    else:
        table = paper.table_named(study.manifests[0].grid.get("table"))
        figures = [] if table is None else _table_figures(study, table)
    return pd.DataFrame(figures, columns=["label", *paper.FIGURES]).set_index("label")


def _table_figures(study: Study, table: paper.PaperTable) -> list[list[Any]]:
    found = []
    for row, label in zip(table.rows, paper_labels(study, table), strict=True):
        if label is not None:
            figures = dict(zip(table.columns, row, strict=True))
            found.append([label, *(float(figures[metric]) for metric in paper.FIGURES)])
    return found


def paper_labels(study: Study, table: paper.PaperTable) -> list[str | None]:
    """For every row of a paper's table the study's cell with just its coordinates, or ``None``."""
    cells = {
        tuple(point.get(name) for name in table.coordinates): label
        for label, point in study.points.items()
        if set(point) <= set(table.coordinates)
    }
    return [cells.get(tuple(row[: len(table.coordinates)])) for row in table.rows]
