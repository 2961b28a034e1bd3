"""A sweep of stub trials, as a command: ``python -m tests.helpers.stub_sweep WORK_DIR``.

It takes the sweep's lease and runs the local launcher, as ``sweep`` does, and imports no torch.
"""

import functools
import signal
import sys
from pathlib import Path

from ablations.store.lease import Lease, LeaseHeldError, LeaseLostError
from ablations.store.processes import tell_main_thread
from ablations.sweep.launchers.launcher import Launch
from ablations.sweep.launchers.local import LocalLauncher
from ablations.sweep.launchers.stopping import stopped_by_signals
from tests.helpers.stub_trial import plan

STEPS = 15


def main() -> int:
    """0 if every trial finished, 1 if not, 2 if another command has the sweep, 130 interrupted."""
    work_dir = Path(sys.argv[1])
    try:
        with (
            stopped_by_signals(),
            Lease(work_dir, functools.partial(tell_main_thread, signal.SIGTERM)),
        ):
            trials = {f"trial{number}": {"steps": STEPS} for number in range(4)}
            job = plan(work_dir, trials)
            todo = [state.entry for state in job.states() if state.record is None]
            LocalLauncher(2).run(Launch(work_dir, todo, job.entry_point), lambda states: None)
            return int(any(state.record is None for state in job.states()))
    except LeaseHeldError:
        return 2
    except LeaseLostError:
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
