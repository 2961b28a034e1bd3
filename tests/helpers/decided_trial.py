"""A sweep whose trials train nothing and whose AP is planted, for tests of sequential sweeps.

``python -m tests.helpers.decided_trial FLAGS`` is ``sweep FLAGS`` with such trials. A trial's AP is
40 + its cell's effect + a shift of its seed + a little noise. ``fates.json`` beside the work
directory may hold ``effects`` (label -> AP), ``fates`` ("label seed" -> "failed" or "diverged") and
``steps``: a trial takes so many of a tenth of a second and saves each (and ends when the file says
that it has done enough).
"""

import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ablations.store.files import read_json, write_json
from ablations.store.lease import Lease
from ablations.store.manifest import trial_folder
from ablations.store.record import LOG, METRICS, TRIAL, Record, read_record, write_record
from ablations.store.status import STATUS
from ablations.sweep.entry_points import EntryPoints
from ablations.sweep.launchers.launcher import Launch, Watch

ME = "tests.helpers.decided_trial"
FATES = "fates.json"
NOISE = 0.1

GRID = """
title = "five losses"
baseline = "CE"
_loss = "model.bbox_head.loss_cls"
blocks = [
    dict(points=[dict(loss="CE"), dict(loss="FL")], set={_loss: {
        "$by": "loss",
        "CE": dict(type="ablations.CrossEntropyLoss", use_sigmoid=True),
        "FL": dict(type="ablations.FocalLoss", gamma=2.0, alpha=0.3, use_sigmoid=True),
    }}),
    dict(product=dict(gamma=[1, 2], alpha=[0.25, 0.75]), set={
        _loss: dict(type="ablations.FocalLoss", gamma="$gamma", alpha="$alpha", use_sigmoid=True),
    }),
]
"""


def main(folder: str) -> None:
    """One attempt."""
    told: list[int] = []
    for number in (signal.SIGTERM, signal.SIGUSR2):
        signal.signal(number, lambda number, _frame: told.append(number))
    with Lease(Path(folder)):
        sys.exit(0 if read_record(Path(folder)) else attempt(Path(folder), told))


def attempt(folder: Path, told: Sequence[int] = ()) -> int:
    """Run the trial until it ends or is ``told`` to stop; returns its exit status."""
    planned, fates = read_json(folder / TRIAL), folder.parents[2] / FATES
    label, seed = planned["label"], int(planned["seed"])
    status = read_json(folder / STATUS) or {}
    attempts = [*status.get("attempts", []), {"started": "2026-05-04T10:00:00+00:00"}]
    write_json(
        folder / STATUS, status | {"state": "training", "reason": None, "attempts": attempts}
    )
    with (folder / LOG).open("a") as log:
        log.write(f"training {label} seed {seed}\n")
    saved = folder / "checkpoint.json"
    step = read_json(saved) or 0
    while step < (steps := (read_json(fates) or {}).get("steps", 1)):
        step += 1
        time.sleep(0.1 if steps > 1 else 0.0)
        write_json(saved, step)
        if told:
            name = signal.Signals(told[0]).name
            now = {"state": "interrupted", "reason": f"stopped by {name}"}
            write_json(folder / STATUS, read_json(folder / STATUS) | now)
            return 130
    asked = read_json(fates) or {}
    fate = asked.get("fates", {}).get(f"{label} {seed}", "finished")
    value = 40 + asked.get("effects", {}).get(label, 0.0) + planted(label, seed)
    write_record(
        folder,
        Record(
            trial_id=folder.name,
            sweep=planned["sweep"],
            point=planned["point"],
            label=label,
            seed=seed,
            status=fate,
            reason=None if fate == "finished" else f"it {fate}",
            metrics=dict.fromkeys(METRICS, value) if fate == "finished" else {},
            timings={"device_s": 36.0, "wall_s": 36.0, "iterations": 1.0, "iteration_s": 36.0},
            attempts=attempts,
        ),
    )
    return 1 if fate == "failed" else 0


def planted(label: str, seed: int) -> float:
    """The seed's shift, shared by all cells, and the trial's noise."""
    shift = np.random.default_rng(seed).normal(0, 1.0)
    noise = np.random.default_rng([seed, *label.encode()]).normal(0, NOISE)
    return float(shift + noise)


def nothing(*_arguments: object) -> list[str]:
    """In the place of a check, or of a preparation."""
    return []


def checked(*_arguments: object) -> dict[str, object]:
    """In the place of the preflight, which would make the data."""
    annotations = Path.cwd() / "val.json"
    write_json(annotations, {"images": [], "annotations": [], "categories": []})
    part = {"file": str(annotations), "annotations": "0"}
    return {"errors": [], "notes": [], "data": {"name": "none", "train": part, "val": part}}


class InlineLauncher:
    """Runs trials one after another in this process; ``stop_after`` so many Ctrl-C comes."""

    trains_here = True

    def __init__(self, stop_after: int | None = None) -> None:
        self.stop_after = stop_after
        self.ran: list[list[str]] = []  # labels and seeds, round by round

    def run(self, launch: Launch, watch: Watch) -> None:
        """Run the trials to their end."""
        self.ran.append([])
        for entry in launch.entries:
            if self.stop_after is not None and sum(map(len, self.ran)) >= self.stop_after:
                raise KeyboardInterrupt
            attempt(trial_folder(launch.work_dir, entry.id))
            self.ran[-1].append(f"{entry.label} {entry.seed}")
        watch(launch.states())

    def hand_over(self, launch: Launch) -> str | None:
        """``None``: there is no queue."""
        return None


def prepare(arguments: list[str]) -> None:
    """Make ``sweep`` run such trials, in this process and until it ends."""
    from ablations.commands import sweep  # a trial does without it

    sweep.TRAINING = EntryPoints(f"{ME}:main", *[f"{ME}:nothing"] * 6)
    sweep.preflight = sweep.preflight_without_torch = checked
    own = [sys.executable, "-m", ME]
    sweep.deciding().next_round_command = lambda _: [*own, *arguments]


if __name__ == "__main__":
    os.environ.setdefault("WANDB_MODE", "disabled")
    from ablations.commands.sweep import main as sweep_main

    prepare(sys.argv[1:])
    sys.exit(sweep_main(sys.argv[1:]))
