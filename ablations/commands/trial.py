"""Run one planned trial in the foreground: ``python runners/trial.py WORK_DIR/trials/ID``."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from ablations.store.lease import LeaseHeldError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns 0 for a finished or diverged trial, 1 failed, 130 interrupted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="a trial's folder, with trial.json")
    folder = parser.parse_args(arguments).folder
    if not (folder / "trial.json").is_file():
        parser.error(f"{folder} is not a trial's folder: it has no trial.json")
    from ablations.training.trial import EXIT_STATUS, run_trial

    try:
        return EXIT_STATUS[run_trial(folder)]
    except LeaseHeldError as error:
        parser.error(str(error))
