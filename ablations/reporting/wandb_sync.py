"""Upload the offline W&B runs of sweeps; what fails is uploaded by the next call.

Trials write their runs offline (``ablations.training.wandb_backend``). They are uploaded by ``wandb
beta sync`` in a separate process, because it may crash or hang. It may also mark a run as uploaded
that the server never got: then only an ERROR line tells, and for an image or an artifact only its
log. So a run counts as uploaded if wandb marked its file (``.wandb.synced``) and no ERROR names it.
Otherwise the mark is removed, and the next call uploads the run again, which replaces the first.
"""

import argparse
import contextlib
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ablations.store.lease import lease_owner
from ablations.store.manifest import TRIALS
from ablations.store.record import RECORD
from ablations.store.wandb_names import FOLDER

AT_A_TIME = 8  # runs uploaded side by side
TIMEOUT = 60.0  # seconds for a batch,
TIMEOUT_PER_RUN = 10.0  # and more for each run in it

# Defaults, unless the user has set others: give up soon, because the next call tries again.
_LIMITS = {
    f"WANDB_X_{part}_{name}": value
    for part in ("GRAPHQL", "FILE_STREAM", "FILE_TRANSFER")
    for name, value in (
        ("RETRY_MAX", "2"),
        ("RETRY_WAIT_MAX_SECONDS", "2"),
        ("TIMEOUT_SECONDS", "10"),
    )
}

# The parts of wandb that report a failed upload only in its log.
_QUIET = ("sender: ", "runupserter: failed to upload", "runfiles: ", "file transfer: ")


@dataclass(frozen=True)
class Part:
    """One offline run on disk: the newest of its trial, which is complete."""

    file: Path
    ended: bool  # its trial has a record, and no process writes it

    @property
    def run_id(self) -> str:
        """W&B's id of the run."""
        return self.file.stem.removeprefix("run-")

    @property
    def marker(self) -> Path:
        """The file with which wandb marks a run that it has uploaded."""
        return self.file.with_suffix(".wandb.synced")

    @property
    def sent(self) -> bool:
        """Whether the whole run has been uploaded."""
        try:
            return self.marker.stat().st_mtime >= self.file.stat().st_mtime
        except FileNotFoundError:
            return False

    def named_in(self, line: str) -> bool:
        """Whether a line of wandb's names this run: as ``[project/id]``, or by its folder.

        The id alone is not enough: the report's id is the sweep's name, which is in every path.
        """
        folder = self.file.parent.name
        return any(name in line for name in (f"/{self.run_id}]", f'{folder}"', f"{folder}/"))


@dataclass
class Outcome:
    """Run ids: uploaded whole (``sent``), uploaded up to now while the trial runs (``partly``), or
    not at all (``failed``, with the reason)."""

    sent: list[str] = field(default_factory=list)
    partly: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        counts = [f"{len(self.sent)} runs sent"]
        counts += [f"{len(self.partly)} sent up to now"] if self.partly else []
        if self.failed:
            reason = next(iter(self.failed.values()))
            counts += [f"{len(self.failed)} not sent ({next(iter(self.failed))}: {reason})"]
        return ", ".join(counts)


def parts(work_dir: Path) -> list[Part]:
    """The newest offline run of every trial of a sweep, and the sweep's own."""
    found = []
    for folder in [*sorted((work_dir / TRIALS).glob("*")), work_dir]:
        files = sorted((folder / FOLDER).glob("offline-run-*/*.wandb"))
        if files:
            ended = folder == work_dir or (
                (folder / RECORD).is_file() and lease_owner(folder) is None
            )
            found.append(Part(files[-1], ended))
    return found


def unsent(work_dirs: Iterable[Path]) -> list[Part]:
    """The runs that ``sync`` would upload."""
    return [part for work_dir in work_dirs for part in parts(work_dir) if not part.sent]


def sync(work_dirs: Iterable[Path]) -> Outcome:
    """Upload every run that has not been uploaded; of a running trial, what it has written so far.

    Raises nothing. Runs that fail are in the outcome, and the next call tries them again.
    """
    outcome = Outcome()
    waiting = unsent(work_dirs)
    for ended in (True, False):
        batch = [part for part in waiting if part.ended == ended]
        if batch:
            _send(batch, ended, outcome)
    return outcome


def _send(batch: Sequence[Part], ended: bool, outcome: Outcome) -> None:
    errors = _run_wandb([part.file for part in batch], ended)
    for part in batch:
        own = [line for line in errors if part.named_in(line)]
        if not ended:  # a file that is still written may end within a record
            own = [line for line in own if "incomplete record" not in line]
        known = part.sent or (not ended and not own and _reached(errors, batch))
        if own or not known:
            part.marker.unlink(missing_ok=True)
            reason = own or [line for line in errors if not _names_any(line, batch)]
            outcome.failed[part.run_id] = reason[0] if reason else "wandb gave no reason"
        elif ended:
            outcome.sent.append(part.run_id)
        else:
            part.marker.unlink(missing_ok=True)  # there is more to come
            outcome.partly.append(part.run_id)


def _names_any(line: str, batch: Sequence[Part]) -> bool:
    return any(part.named_in(line) for part in batch)


def _reached(errors: Sequence[str], batch: Sequence[Part]) -> bool:
    """Whether every error names a run; others, such as a silent server, concern the whole batch."""
    return all(_names_any(line, batch) for line in errors)


def _run_wandb(files: Sequence[Path], ended: bool) -> list[str]:
    """Run ``wandb beta sync``; returns its ERROR lines and any other failure."""
    command = [sys.executable, "-m", "wandb", "beta", "sync", "-n", str(AT_A_TIME)]
    limit = TIMEOUT + TIMEOUT_PER_RUN * len(files)
    with tempfile.TemporaryDirectory(prefix="wandb-sync-") as scratch:
        environment = {
            **_LIMITS,
            "WANDB_ERROR_REPORTING": "false",
            **os.environ,
            "WANDB_CACHE_DIR": scratch,
            "WANDB_DATA_DIR": scratch,
            "WANDB_DIR": scratch,
            "WANDB_PROGRAM": "runners/report.py",
            "WANDB_X_UPDATE_FINISH_STATE": str(ended).lower(),
        }
        # These would silence errors too, or use another service.
        for name in ("WANDB_MODE", "WANDB_SERVICE", "WANDB_SILENT", "WANDB_QUIET"):
            environment.pop(name, None)
        try:
            done = subprocess.run(
                [*command, *(str(file.resolve()) for file in files)],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=limit,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return [f"wandb did not end within {limit:g} s"]
        except OSError as error:
            return [f"wandb cannot be run: {error}"]
        logged = _logged(Path(scratch))
    lines = [line.removeprefix("wandb: ") for line in done.stdout.splitlines()]
    errors = [line.removeprefix("ERROR ") for line in lines if line.startswith("ERROR ")]
    if done.returncode != 0:
        last = lines[-1] if lines else "no output"
        errors.append(f"wandb ended with status {done.returncode}: {last}")
    return errors + logged


def _logged(scratch: Path) -> list[str]:
    """Failed uploads in wandb's log, which has one JSON object a line."""
    entries = []
    for log in scratch.rglob("debug-sync*.log"):
        for line in log.read_text().splitlines():
            with contextlib.suppress(ValueError):  # torn off by a crash
                entries.append(json.loads(line))
    return [
        f"{entry['msg']} ({entry.get('sync_path')})"
        for entry in entries
        if entry["level"].startswith("ERROR") and entry["msg"].startswith(_QUIET)
    ]


def follow(work_dir: Path, every: float) -> None:
    """Upload what a sweep's trials write while they train, until standard input is closed."""
    while not select.select([sys.stdin], [], [], every)[0]:
        outcome = sync([work_dir])
        print(time.strftime("%H:%M:%S"), outcome, flush=True)


def main() -> None:
    """``python -m ablations.reporting.wandb_sync WORK_DIR``: ``follow`` one sweep."""
    parser = argparse.ArgumentParser(description=follow.__doc__)
    parser.add_argument("work_dir", type=Path)
    parser.add_argument("--every", type=float, default=30.0, metavar="SECONDS")
    options = parser.parse_args()
    follow(options.work_dir, options.every)


if __name__ == "__main__":
    main()
