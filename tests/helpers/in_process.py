"""Commands that run in the test's process, whose trials are all forked from one server.

A command as typed imports torch and mmdet each time, which takes longer than a tiny trial.
"""

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import forkserver
from pathlib import Path

import pytest


class InProcess:
    """Runs commands. Their output includes that of the processes they start.

    ``close`` ends the fork server, which keeps the environment and the output it began with.
    """

    def __init__(self) -> None:
        self.close()
        self._files = [tempfile.TemporaryFile() for _ in range(2)]  # noqa: SIM115 - kept

    def close(self) -> None:
        """The next command, of whomever, starts a fork server of its own."""
        forkserver._forkserver._stop()  # type: ignore[attr-defined]

    def run(
        self, main: Callable[[Sequence[str]], int], script: Path, flags: Sequence[str], folder: Path
    ) -> subprocess.CompletedProcess[str]:
        """As ``script`` with these flags in a folder, where ``main`` is all that it calls."""
        begun = [os.fstat(file.fileno()).st_size for file in self._files]
        with contextlib.ExitStack() as stack:
            for number, file in enumerate(self._files, start=1):
                stack.enter_context(_redirected(number, file.fileno()))
            patch = stack.enter_context(pytest.MonkeyPatch.context())
            patch.setenv("WANDB_MODE", os.environ["WANDB_MODE"])  # a command sets it
            patch.setenv("COLUMNS", "200")
            patch.chdir(folder)
            patch.setattr("multiprocessing.process.ORIGINAL_DIR", str(folder))  # the trials' folder
            patch.setattr(sys, "path", [str(script.parents[1]), str(folder), *sys.path])
            patch.setattr(sys, "argv", [str(script), *flags])
            try:
                status = main(flags)
            except SystemExit as error:
                status = error.code  # type: ignore[assignment]
        out, err = (
            os.pread(file.fileno(), 10**7, start).decode()
            for file, start in zip(self._files, begun, strict=True)
        )
        return subprocess.CompletedProcess(flags, status, out, err)


@contextlib.contextmanager
def _redirected(number: int, target: int) -> Iterator[None]:
    """Standard output (1) or error (2) goes to ``target``, also that of other processes."""
    redirect = contextlib.redirect_stdout if number == 1 else contextlib.redirect_stderr
    before = os.dup(number)
    os.dup2(target, number)
    try:
        with open(number, "w", closefd=False) as stream, redirect(stream):
            yield
    finally:
        os.dup2(before, number)
        os.close(before)
