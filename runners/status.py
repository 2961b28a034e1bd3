"""Show how a sweep stands: every trial, Slurm's view of it, and what is missing.

    python runners/status.py work_dirs/gamma_alpha

Exit status: 0, or 1 if a trial is neither done nor queued nor running, 2 bad usage.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from rich.console import Console

from ablations.sweep.slurm import SlurmDownError, cancel
from ablations.sweep.status import show


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(description="Show how a sweep stands.")
    parser.add_argument("work_dir", type=Path, metavar="WORK_DIR")
    parser.add_argument("--cancel", action="store_true", help="cancel its Slurm jobs")
    args = parser.parse_args(arguments)
    try:
        if args.cancel:
            cancelled = cancel(args.work_dir)
            print(f"cancelled: {', '.join(cancelled) or 'nothing was queued or running'}")
            return 0
        return 1 if show(args.work_dir, Console(highlight=False)) else 0
    except (FileNotFoundError, SlurmDownError) as error:
        print(f"status.py: error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
