"""Run one planned trial in the foreground: ``python runners/trial.py WORK_DIR/trials/ID``."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from ablations.store.files import read_json
from ablations.store.lease import LeaseHeldError
from ablations.store.record import TRIAL, LaterRecordError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns 0 for a finished or diverged trial, 1 failed, 74 if its files could
    not be written, 75 taken over by another process, 130 interrupted. A trial that hangs ends it
    with 124."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="a trial's folder, with trial.json")
    folder = parser.parse_args(arguments).folder
    try:
        if read_json(folder / TRIAL) is None:
            parser.error(f"{folder} is not a trial's folder: it has no {TRIAL}")
    except ValueError as error:
        parser.error(f"{error}; the sweep's own command writes it again")
    from ablations.training.trial import EXIT_STATUS, run_trial

    try:
        return EXIT_STATUS[run_trial(folder)]
    except (LeaseHeldError, LaterRecordError) as error:
        parser.error(str(error))
