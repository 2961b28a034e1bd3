"""Run one planned trial in the foreground: ``python runners/trial.py WORK_DIR/trials/ID``."""

import argparse
import sys
from pathlib import Path

# The package, and the losses that a user keeps beside the configs.
sys.path[:0] = [str(Path(__file__).parents[1]), str(Path.cwd())]


def main() -> int:
    """Run the command; returns 0 for a finished or diverged trial, 1 failed, 130 interrupted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="a trial's folder, with trial.json")
    folder = parser.parse_args().folder
    if not (folder / "trial.json").is_file():
        parser.error(f"{folder} is not a trial's folder: it has no trial.json")
    from ablations.sweep.lease import LeaseHeldError
    from ablations.training.trial import EXIT_STATUS, run_trial

    try:
        return EXIT_STATUS[run_trial(folder)]
    except LeaseHeldError as error:
        parser.error(str(error))


if __name__ == "__main__":
    sys.exit(main())
