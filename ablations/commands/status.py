"""Show the state of a sweep: every trial, its Slurm job, and the trials nobody will finish.

    python runners/status.py work_dirs/gamma_alpha

Exit status: 0, or 1 if a trial is neither done nor queued nor running, 2 bad usage.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from ablations.commands.output import refuse, until_closed
from ablations.sweep.launchers.slurm.queue import SlurmDownError, cancel
from ablations.sweep.overview import show


@until_closed
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(description="Show the state of a sweep.")
    parser.add_argument("work_dir", type=Path, metavar="WORK_DIR")
    parser.add_argument("--cancel", action="store_true", help="cancel its Slurm jobs")
    args = parser.parse_args(arguments)
    try:
        if args.cancel:
            cancelled = cancel(args.work_dir)
            print(f"cancelled: {', '.join(cancelled) or 'nothing was queued or running'}")
            return 0
        return 1 if show(args.work_dir, Console(highlight=False)) else 0
    except BrokenPipeError:
        raise
    except (ValueError, OSError, SlurmDownError) as error:
        refuse(error)
        return 2
