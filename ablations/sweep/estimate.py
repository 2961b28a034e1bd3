"""Estimate what a sweep will cost, and name the source of the estimate."""

import contextlib
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ablations.store.states import TrialState
from ablations.sweep import flops
from ablations.sweep.power import LIMIT, paired_sd, seeds_needed
from ablations.sweep.reuse import REUSABLE

RESOLVED = (0.5, 1.0, 2.0)  # differences in AP


@dataclass(frozen=True)
class Resolution:
    """What it takes to show a ``difference`` in AP between two cells of the grid. ``None``: more
    seeds than ``power.LIMIT``, or a cost that is unknown."""

    difference: float
    seeds: int | None
    trials: int | None  # of all cells
    device_hours: float | None


@dataclass(frozen=True)
class SeedsNeeded:
    """How many seeds resolve what, at one seed's ``paired_sd`` in AP; that is ``None`` and
    ``resolves`` empty where the noise is not known."""

    paired_sd: float | None
    source: str
    cells: int
    resolves: list[Resolution]

    def __str__(self) -> str:
        if self.paired_sd is None:
            return f"seeds needed: unknown ({self.source})"
        lines = [
            f"seeds to show a difference between two of the {self.cells} cells (5 % level, 80 % "
            f"power), at a paired standard deviation of {self.paired_sd:.2f} AP ({self.source}):"
        ]
        for row in self.resolves:
            cost = f", {row.device_hours:.2f} device-hours" if row.device_hours is not None else ""
            needs = f"{row.seeds} seeds, {row.trials} trials{cost}"
            if row.seeds is None:
                needs = f"more than {LIMIT} seeds"
            lines.append(f"  {row.difference:g} AP: {needs}")
        return "\n".join(lines)


@dataclass(frozen=True)
class CostEstimate:
    """The cost of the trials that are not done. ``None``: unknown."""

    trials: int
    device_hours: float | None
    wall_hours: float | None
    workers: int
    source: str
    seeds: SeedsNeeded

    def as_json(self) -> dict[str, Any]:
        """As ``--dry-run --json`` prints it."""
        return asdict(self)

    def __str__(self) -> str:
        if self.device_hours is None:
            return f"{self.trials} trials to run; cost unknown ({self.source})"
        wall = f"{self.wall_hours:.1f} h" if self.wall_hours else ""
        if self.wall_hours is not None and self.wall_hours < 1:
            wall = f"{60 * self.wall_hours:.0f} min"
        return (
            f"{self.trials} trials to run: about {self.device_hours:.2f} device-hours, {wall} with "
            f"{self.workers} at a time ({self.source})"
        )


def estimate(
    states: Sequence[TrialState],
    known: Sequence[TrialState],
    config: dict[str, Any],
    workers: int,
    gpus_per_trial: int,
    iterations: int,
    configs: Mapping[str, dict[str, Any]] | None = None,
) -> CostEstimate:
    """Estimate the cost of the ``states`` that are not done, and how many seeds resolve what.

    Both come from the ``known`` trials that this sweep has finished itself, or from the config's
    ``expected_cost``. Trials that will be reused from other sweeps are free.

    ``expected_cost`` is a dict: ``trial_s``, the seconds of one trial of ``iterations`` iterations,
    each of ``batch_size`` images a process (default: the config's), on one ``device``; and
    ``source``, where that comes from. In place of ``trial_s`` it may have ``peak_tflops``, of the
    ``device``, and ``utilisation``, the share of it that training reaches: a trial then takes as
    long as its detector's operations (``flops``), each trial by its own config in ``configs`` (by
    id). It may have ``paired_sd``, the standard deviation of one
    seed's paired difference in AP, with ``paired_sd_source``; both are asked only where the known
    trials are of fewer than two seeds or cells. Trials that are running count as whole.
    """
    assumed = config.get("expected_cost") or {}
    cells = _trials_a_seed(states)
    open_ids = {s.entry.id for s in states if s.record is None and s.state != REUSABLE}
    left = len(open_ids)
    own = [(configs or {}).get(each, config) for each in sorted(open_ids)] or [config]
    measured = [
        state.record.timings["device_s"]
        for state in known
        if state.record is not None
        and state.record.status == "finished"
        and not state.record.taken_from
    ]
    if measured:
        seconds = statistics.median(measured)
        source = f"median of {len(measured)} finished trials of this sweep"
    elif assumed.get("trial_s"):
        costs = [_expected(each, config) for each in own]
        images = config["train_dataloader"]["batch_size"]
        seconds = gpus_per_trial * statistics.mean(
            cost["trial_s"]
            * iterations
            * images
            / cost["iterations"]
            / cost.get("batch_size", images)
            for cost in costs
        )
        mean = statistics.mean(cost["trial_s"] for cost in costs)
        source = f"assumes {mean:g} s a trial on {assumed['device']}: {assumed['source']}"
    elif assumed.get("peak_tflops") and (counted := _counted(own)):
        seconds = statistics.mean(trial for trial, _ in counted) * gpus_per_trial
        rest = len(own) - len(counted)
        source = (
            f"assumes {1000 * statistics.mean(each for _, each in counted):.0f} ms an "
            f"iteration: the detector's operations at {assumed['utilisation']:.0%} of "
            f"{assumed['device']}'s {assumed['peak_tflops']:g} TFLOP/s; {assumed['source']}"
            + (f"; {rest} trials of other detectors are taken to last as long" if rest else "")
        )
    else:
        source = "no trial of this sweep has finished yet"
        return CostEstimate(
            left, None, None, workers, source, _seeds_needed(known, assumed, cells, None)
        )
    device_hours = left * seconds / 3600
    rounds = -(-left // workers)
    wall_hours = rounds * seconds / gpus_per_trial / 3600
    return CostEstimate(
        left,
        round(device_hours, 4),
        round(wall_hours, 4),
        workers,
        source,
        _seeds_needed(known, assumed, cells, seconds),
    )


def _expected(config: dict[str, Any], base: dict[str, Any]) -> dict[str, Any]:
    """A trial's own ``expected_cost``, which its grid may have set, or else the sweep's."""
    own: dict[str, Any] = config.get("expected_cost") or {}
    return own if own.get("trial_s") else base["expected_cost"]


def _counted(configs: Sequence[dict[str, Any]]) -> list[tuple[float, float]]:
    """Seconds of a trial and of an iteration, for each config whose operations can be counted."""
    found = []
    for config in configs:
        with contextlib.suppress(ValueError, KeyError, TypeError):
            trial = counted_seconds(config)
            found.append((trial, trial / config["train_cfg"]["max_iters"]))
    return found


def iteration_seconds(config: dict[str, Any]) -> float:
    """Seconds of one iteration on one GPU, by the detector's operations and ``expected_cost``.

    Raises:
        ValueError: the operations of such a detector are not counted.
    """
    assumed = config["expected_cost"]
    images = config["train_dataloader"]["batch_size"]
    operations = images * flops.training(config["model"], flops.image_size(config))
    return operations / (assumed["peak_tflops"] * 1e12 * assumed["utilisation"])


def counted_seconds(config: dict[str, Any]) -> float:
    """Seconds of one trial's training, by the same count; its evaluation is left out."""
    return float(config["train_cfg"]["max_iters"]) * iteration_seconds(config)


def _trials_a_seed(states: Sequence[TrialState]) -> int:
    """The most trials that one seed has; cells that are one experiment share a trial."""
    by_seed: dict[int, set[str]] = {}
    for state in states:
        by_seed.setdefault(state.entry.seed, set()).add(state.entry.id)
    return max(map(len, by_seed.values()), default=0)


def _seeds_needed(
    known: Sequence[TrialState], assumed: dict[str, Any], cells: int, seconds: float | None
) -> SeedsNeeded:
    """From the noise of the ``known`` trials, or else the assumed one; ``seconds`` is a trial's."""
    ap = {
        (state.entry.label, state.entry.seed): float(value)
        for state in known
        if state.record is not None
        and state.record.status == "finished"
        and (value := state.record.metrics.get("AP")) is not None
    }
    sd, source = paired_sd(ap), f"{len(ap)} finished trials"
    if sd is None and assumed.get("paired_sd") is not None:
        sd, source = float(assumed["paired_sd"]), str(assumed.get("paired_sd_source", "assumed"))
    if sd is None:
        return SeedsNeeded(None, "no two cells have finished two seeds yet", cells, [])
    resolves = []
    for difference in RESOLVED:
        seeds = seeds_needed(difference, sd)
        trials = None if seeds is None else seeds * cells
        known_cost = trials is not None and seconds is not None
        hours = round(trials * seconds / 3600, 4) if known_cost else None  # type: ignore[operator]
        resolves.append(Resolution(difference, seeds, trials, hours))
    return SeedsNeeded(round(sd, 4), source, cells, resolves)
