"""Run pip and compilers: short progress on the screen, everything in a log file."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

SHOWN_AT_FAILURE = 30  # lines
# What pip says about places that somebody configured and that cannot be reached.
NOISE = re.compile(r"WARNING: (Location .* is ignored|Retrying \(|The repository located at)")
LARGE = re.compile(r"\s*Downloading \S*?([^\s/]+) \((\d[\d.]* [MG]B)\)")


class StepError(Exception):
    """A step of the set-up failed; the message is for the user."""


def say(text: str) -> None:
    """Print one line about the set-up."""
    print(f"== {text}", flush=True)


def logged(
    command: Sequence[str | Path],
    log: Path,
    show: Callable[[str], None],
    env: dict[str, str] | None = None,
    cwd: Path | None = None,
) -> None:
    """Run ``command``, append what it prints to ``log`` and hand each line to ``show``.

    Raises:
        StepError: it failed; the message has the end of its output.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    lines: list[str] = []
    environment = {**os.environ, **(env or {})}
    with (
        log.open("a") as file,
        subprocess.Popen(
            list(map(str, command)),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=environment,
            cwd=cwd,
        ) as process,
    ):
        print("$", *command, file=file, flush=True)
        assert process.stdout is not None
        for line in process.stdout:
            if NOISE.match(line):
                continue
            file.write(line)
            file.flush()
            lines = [*lines[1 - SHOWN_AT_FAILURE :], line]
            show(line)
    if process.returncode:
        raise StepError(f"{''.join(lines)}== failed; all of the output is in {log}")


def pip_install(
    *arguments: str | Path, python: str | Path = sys.executable, log: Path | None = None
) -> None:
    """``pip install``: large downloads are shown as they begin. ``PIP_...`` variables count."""
    command = [python, "-m", "pip", "--disable-pip-version-check", "install", "--no-input"]
    place = log or Path(sys.prefix) / "setup.log"
    logged([*command, "--progress-bar", "off", *arguments], place, _show_download)


def _show_download(line: str) -> None:
    if found := LARGE.match(line):
        print(f"   downloading {found[1]} ({found[2]})", flush=True)
