"""Estimate what a sweep will cost, and name the source of the estimate."""

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ablations.store.states import TrialState
from ablations.sweep.reuse import REUSABLE


@dataclass(frozen=True)
class CostEstimate:
    """The cost of the trials that are not done. ``None``: unknown."""

    trials: int
    device_hours: float | None
    wall_hours: float | None
    workers: int
    source: str

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
) -> CostEstimate:
    """Estimate the cost of the ``states`` that are not done.

    The cost of one trial is the median of the ``known`` trials that this sweep has finished itself,
    or else the config's ``expected_cost``. Trials that will be reused from other sweeps are free.

    ``expected_cost`` is a dict: ``trial_s``, the seconds of one trial of ``iterations`` iterations,
    each of ``batch_size`` images a process (default: the config's), on one ``device``; and
    ``source``, where that comes from. Trials that are running count as whole.
    """
    open_ = (state for state in states if state.record is None and state.state != REUSABLE)
    left = len({state.entry.id for state in open_})
    measured = [
        state.record.timings["device_s"]
        for state in known
        if state.record is not None
        and state.record.status == "finished"
        and not state.record.taken_from
    ]
    assumed = config.get("expected_cost")
    if measured:
        seconds = statistics.median(measured)
        source = f"median of {len(measured)} finished trials of this sweep"
    elif assumed:
        images = config["train_dataloader"]["batch_size"]
        share = iterations * images / assumed["iterations"] / assumed.get("batch_size", images)
        seconds = assumed["trial_s"] * share * gpus_per_trial
        source = f"assumes {assumed['trial_s']} s a trial on {assumed['device']}: "
        source += str(assumed["source"])
    else:
        return CostEstimate(left, None, None, workers, "no trial of this sweep has finished yet")
    device_hours = left * seconds / 3600
    rounds = -(-left // workers)
    wall_hours = rounds * seconds / gpus_per_trial / 3600
    return CostEstimate(left, round(device_hours, 4), round(wall_hours, 4), workers, source)
