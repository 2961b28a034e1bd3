"""Upload the trials' W&B runs while they train, in a separate process."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from ablations.store.wandb_names import FOLDER

UPLOAD_EVERY = 30.0  # seconds between two looks at the trials
STOP_TIMEOUT = 10.0  # seconds the uploader gets to end


@contextlib.contextmanager
def uploading(
    work_dir: Path, mode: str, uploader: str, every: float = UPLOAD_EVERY
) -> Iterator[None]:
    """If ``mode`` is online, run the uploader while the ``with`` block runs.

    An uploader that fails does not affect the trials. Its log is ``<work dir>/wandb/sync.log``.

    Args:
        work_dir: of the sweep.
        mode: W&B's: ``online``, ``offline`` or ``disabled``.
        uploader: module that is run with the work directory and ``--every``; it ends when its
            standard input is closed.
        every: seconds between two looks at the trials.
    """
    if mode != "online":
        yield
        return
    log = work_dir / FOLDER / "sync.log"
    log.parent.mkdir(exist_ok=True)
    root = str(Path(__file__).parents[2])
    with log.open("a") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", uploader, str(work_dir.resolve()), "--every", str(every)],
            cwd=root,
            stdin=subprocess.PIPE,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield
    finally:
        if process.stdin is not None:
            process.stdin.close()  # the uploader ends when this is closed
        try:
            process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
