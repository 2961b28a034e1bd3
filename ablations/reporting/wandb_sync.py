"""Upload the offline W&B runs of sweeps; what fails is uploaded by the next call.

Trials write their runs offline (``ablations.training.wandb_backend``). They are uploaded by ``wandb
beta sync`` in a separate process, because it may crash or hang. It may also mark a run as uploaded
that the server never got: then only an ERROR line tells, and for an image or an artifact only its
log. So a run counts as uploaded if wandb marked its file (``.wandb.synced``) and no ERROR names it.
Otherwise the mark is removed, and the next call uploads the run again, which replaces the first.

How long an upload takes depends on the machine and the line. So it has no limit: it goes on while
runs arrive, and ends when nothing arrives any more.
"""

import argparse
import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ablations.store.lease import lease_owner
from ablations.store.manifest import TRIALS
from ablations.store.record import RECORD, DamagedRecordError, read_record
from ablations.store.status import STATUS
from ablations.store.wandb_names import FOLDER, PROBLEM

AT_A_TIME = 8  # runs uploaded side by side
TIMEOUT = 60.0  # seconds without a sign of progress after which wandb is ended,
TIMEOUT_PER_RUN = 10.0  # and more for each run it uploads
_LOOK = 0.5  # seconds between two looks for such signs

# Defaults, unless the user has set others. A busy machine may take half a minute for a request.
_LIMITS = {
    f"WANDB_X_{part}_{name}": value
    for part in ("GRAPHQL", "FILE_STREAM", "FILE_TRANSFER")
    for name, value in (
        ("RETRY_MAX", "4"),
        ("RETRY_WAIT_MAX_SECONDS", "4"),
        ("TIMEOUT_SECONDS", "30"),
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
        if files := _runs(folder):
            ended = folder == work_dir or (
                (folder / RECORD).is_file() and lease_owner(folder) is None
            )
            found.append(Part(files[-1], ended))
    return found


def _runs(folder: Path) -> list[Path]:
    """The offline runs in a folder, the newest last.

    Their names have the local time, which another time zone or a clock that was set back may put in
    another order; so the time of the last change counts first, to the second.
    """
    files = (folder / FOLDER).glob("offline-run-*/*.wandb")
    return sorted(files, key=lambda file: (int(file.stat().st_mtime), str(file)))


def lost_runs(work_dir: Path) -> str:
    """One line about the trials whose run is missing or ends too early; empty if there are none.

    Trials that have not begun or were taken over from another sweep need no run.
    """
    begun, missing, torn = 0, [], []
    for folder in sorted((work_dir / TRIALS).glob("*")):
        if not (folder / STATUS).is_file() and not (folder / RECORD).is_file():
            continue
        begun += 1
        if not _runs(folder):
            with contextlib.suppress(DamagedRecordError):
                if (record := read_record(folder)) is not None and record.taken_from:
                    begun -= 1
                    continue
            missing.append(folder)
        elif (folder / FOLDER / PROBLEM).is_file():
            torn.append(folder)
    parts = [f"{len(missing)} have no run"] if missing else []
    parts += [f"the runs of {len(torn)} are not complete"] if torn else []
    if not parts:
        return ""
    reasons = (folder / FOLDER / PROBLEM for folder in (*missing, *torn))
    why = next((path.read_text() for path in reasons if path.is_file()), "")
    return f"of {begun} trials {' and '.join(parts)}{f' ({why})' if why else ''}"


def unsent(work_dirs: Iterable[Path]) -> list[Part]:
    """The runs that ``sync`` would upload."""
    return [part for work_dir in work_dirs for part in parts(work_dir) if not part.sent]


def sync(work_dirs: Iterable[Path]) -> Outcome:
    """Upload every run that has not been uploaded; of a running trial, what it has written so far.

    Runs that fail are tried again as long as others arrive. Raises nothing: what fails in the end
    is in the outcome, and the next call tries it again.
    """
    outcome = Outcome()
    waiting = unsent(work_dirs)
    for ended in (True, False):
        left = [part for part in waiting if part.ended == ended]
        while left:
            failed = _send_all(left, ended, outcome)
            if len(failed) == len(left):  # nothing has arrived
                break
            left = failed
    return outcome


def _send_all(parts: Sequence[Part], ended: bool, outcome: Outcome) -> list[Part]:
    """Upload each run once, ``AT_A_TIME`` side by side; returns those that failed.

    After a batch of which nothing arrived, although no run was to blame, the others are not tried:
    the server is silent.
    """
    failed: list[Part] = []
    for first in range(0, len(parts), AT_A_TIME):
        batch = parts[first : first + AT_A_TIME]
        lost, blamed = _send(batch, ended, outcome)
        failed += lost
        if len(lost) == len(batch) and not blamed:
            rest = parts[first + AT_A_TIME :]
            reason = outcome.failed[lost[0].run_id]
            outcome.failed |= {part.run_id: reason for part in rest}
            return [*failed, *rest]
    return failed


def _send(batch: Sequence[Part], ended: bool, outcome: Outcome) -> tuple[list[Part], bool]:
    """Upload some runs; returns those that failed, and whether an error names one of them."""
    errors = _run_wandb(batch, ended)
    lost, blamed = [], False
    for part in batch:
        own = [line for line in errors if part.named_in(line)]
        if not ended:  # a file that is still written may end within a record
            own = [line for line in own if "incomplete record" not in line]
        known = part.sent or (not ended and not own and _reached(errors, batch))
        if own or not known:
            _unmark(part)
            reason = own or [line for line in errors if not _names_any(line, batch)]
            outcome.failed[part.run_id] = reason[0] if reason else "wandb gave no reason"
            lost.append(part)
            blamed = blamed or bool(own)
            continue
        outcome.failed.pop(part.run_id, None)
        if ended:
            outcome.sent.append(part.run_id)
        else:
            _unmark(part)  # there is more to come
            outcome.partly.append(part.run_id)
    return lost, blamed


def _unmark(part: Part) -> None:
    with contextlib.suppress(OSError):
        part.marker.unlink()


def _names_any(line: str, batch: Sequence[Part]) -> bool:
    return any(part.named_in(line) for part in batch)


def _reached(errors: Sequence[str], batch: Sequence[Part]) -> bool:
    """Whether every error names a run; others, such as a silent server, concern the whole batch."""
    return all(_names_any(line, batch) for line in errors)


def _run_wandb(batch: Sequence[Part], ended: bool) -> list[str]:
    """Run ``wandb beta sync``; returns its ERROR lines and any other failure."""
    try:
        return _errors_of_wandb(batch, ended)
    except OSError as error:  # the disk is full, for example
        return [f"wandb cannot be run: {error}"]


def _errors_of_wandb(batch: Sequence[Part], ended: bool) -> list[str]:
    command = [sys.executable, "-m", "wandb", "beta", "sync", "-n", str(AT_A_TIME)]
    with tempfile.TemporaryDirectory(prefix="wandb-sync-", ignore_cleanup_errors=True) as scratch:
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
        output = Path(scratch) / "output.txt"
        with output.open("w") as stream:
            process = subprocess.Popen(
                [*command, *(str(part.file.resolve()) for part in batch)],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        silence = TIMEOUT + TIMEOUT_PER_RUN * len(batch)
        if not _ends(process, lambda: _signs(batch, Path(scratch)), silence):
            return [f"nothing has arrived for {silence:g} s"]
        logged = _logged(Path(scratch))
        written = output.read_text(errors="replace").splitlines()
    lines = [line.removeprefix("wandb: ") for line in written]
    errors = [line.removeprefix("ERROR ") for line in lines if line.startswith("ERROR ")]
    if process.returncode != 0:
        last = lines[-1] if lines else "no output"
        errors.append(f"wandb ended with status {process.returncode}: {last}")
    return errors + logged


def _ends(process: subprocess.Popen[bytes], signs: Callable[[], object], silence: float) -> bool:
    """Wait for the end of a process; end it after ``silence`` seconds in which no sign changes."""
    try:
        last, heard = signs(), time.monotonic()
        while time.monotonic() - heard < silence:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_LOOK)
                return True
            if (now := signs()) != last:
                last, heard = now, time.monotonic()
        return False
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)  # its service too
            process.wait()


def _signs(batch: Sequence[Part], scratch: Path) -> tuple[object, ...]:
    """What changes while an upload makes progress: the marks, and what wandb writes."""
    sizes = []
    for path in scratch.rglob("*"):
        with contextlib.suppress(OSError):
            sizes.append((str(path), path.stat().st_size))
    return [part.sent for part in batch], sorted(sizes)


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
