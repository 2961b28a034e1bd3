"""A lease on a folder: one process at a time may own it, also between machines on a shared disk.

The lease is a file. It is created by a hard link, which is atomic on local and network file
systems, and its owner touches it every ``RENEW_EVERY`` seconds. It is stale when its owner is a
dead process of this machine, or when it was not touched for ``TIME_TO_LIVE`` seconds. Ages are
measured by the file server's clock: the machines' own may differ.
"""

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

LEASE = "lease.json"
TIME_TO_LIVE = 60.0  # seconds without a touch after which a lease is stale
RENEW_EVERY = 10.0  # seconds


class LeaseHeldError(RuntimeError):
    """Another process owns the folder."""


def _boot_id() -> str:
    """Identifies this boot of this machine. Process ids are comparable only within one."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return socket.gethostname()


def _server_time(folder: Path) -> float:
    """Now, by the clock that dates the files in ``folder``."""
    probe = folder / f".clock.{uuid.uuid4().hex[:8]}"
    try:
        probe.touch()
        return probe.stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _read(path: Path) -> dict[str, Any] | None:
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return None


def lease_owner(folder: Path) -> dict[str, Any] | None:
    """The owner of the folder (host, pid), or ``None`` if there is none or it is gone."""
    path = folder / LEASE
    owner = _read(path)
    if owner is None:
        return None
    if owner["boot"] == _boot_id():
        return owner if _alive(owner["pid"]) else None
    with contextlib.suppress(FileNotFoundError):
        if _server_time(folder) - path.stat().st_mtime < TIME_TO_LIVE:
            return owner
    return None


@dataclass
class Lease:
    """Own ``folder`` while the ``with`` block runs.

    The folder is made if it is missing, and removed again if it is empty at the end.

    Raises (on entering):
        LeaseHeldError: a living process owns it; the message names host and process.
    """

    folder: Path

    def __post_init__(self) -> None:
        self._token = uuid.uuid4().hex
        self._path = self.folder / LEASE
        self._released = threading.Event()

    def __enter__(self) -> "Lease":
        self._made = not self.folder.exists()
        self.folder.mkdir(parents=True, exist_ok=True)
        owner = {
            "host": socket.gethostname(),
            "boot": _boot_id(),
            "pid": os.getpid(),
            "token": self._token,
        }
        draft = self.folder / f".{LEASE}.{self._token}"
        draft.write_text(json.dumps(owner))
        try:
            while not self._take(draft):
                time.sleep(0.05)
        finally:
            draft.unlink(missing_ok=True)
        threading.Thread(target=self._renew, name="lease", daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._released.set()
        if self._held():
            self._path.unlink(missing_ok=True)
        if self._made:
            with contextlib.suppress(OSError):  # it is not empty
                self.folder.rmdir()

    def _held(self) -> bool:
        owner = _read(self._path)
        return owner is not None and owner["token"] == self._token

    def _renew(self) -> None:
        while not self._released.wait(RENEW_EVERY):
            with contextlib.suppress(OSError):
                if self._held():
                    os.utime(self._path)

    def _take(self, draft: Path) -> bool:
        """Make ``draft`` the lease if there is none or a stale one; returns whether that worked."""
        try:
            os.link(draft, self._path)
            return True
        except FileExistsError:
            stale = _read(self._path)
        if stale is None:
            return False
        if lease_owner(self.folder) is not None:
            raise LeaseHeldError(
                f"{self.folder} is in use by process {stale['pid']} on {stale['host']}"
            )
        # Several processes may see the same stale lease. If each simply replaced it, the second
        # would take the lease that the first has just made. So a process first claims the stale
        # lease by a hard link, which only one of them gets, and then replaces it if it is still
        # the one it saw.
        claim = self.folder / f".{LEASE}.claim.{stale['token']}"
        try:
            os.link(draft, claim)
        except FileExistsError:
            with contextlib.suppress(FileNotFoundError):  # the process that claimed may have died
                if _server_time(self.folder) - claim.stat().st_mtime > TIME_TO_LIVE:
                    claim.unlink()
            return False
        try:
            found = _read(self._path)
            if found is None or found["token"] != stale["token"]:
                return False
            draft.replace(self._path)
            return True
        finally:
            claim.unlink(missing_ok=True)
