"""A lease on a folder: one process at a time may own it, also between machines on a shared disk.

The lease is a file. It is created by a hard link (or, where there are none, by an exclusive open),
which is atomic on local and network file systems, and its owner touches it every ``RENEW_EVERY``
seconds. An owner that can be looked up from here, on the same boot and in the same process
namespace, owns the folder as long as it lives. Of any other owner, and of a lease that cannot be
read, the clock decides: it is gone when it has not touched its lease for ``TIME_TO_LIVE`` seconds.
Ages are measured by the file server's clock: the machines' own may differ.

An owner that falls silent for so long, because its machine was suspended or cut off from the disk,
can lose its lease. It looks at it whenever it touches it, and before it writes what counts
(``check_lease``).
"""

import contextlib
import hashlib
import json
import os
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from ablations.store.processes import is_alive, this_process

LEASE = "lease.json"
TIME_TO_LIVE = 60.0  # seconds without a touch after which the clock counts an owner as gone
RENEW_EVERY = 10.0  # seconds


class LeaseHeldError(RuntimeError):
    """Another process owns the folder."""


class LeaseLostError(RuntimeError):
    """Another process has taken the folder over from this one, which must stop."""


def _server_time(folder: Path) -> float:
    """Now, by the clock that dates the files in ``folder``."""
    probe = folder / f".clock.{uuid.uuid4().hex[:8]}"
    try:
        probe.touch()
        return probe.stat().st_mtime
    except OSError:  # a folder that this process may only read
        return time.time()
    finally:
        with contextlib.suppress(OSError):
            probe.unlink()


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _owner(content: bytes) -> dict[str, Any]:
    """Who wrote a lease; of a damaged one, nobody knows."""
    with contextlib.suppress(ValueError, RecursionError):
        found = json.loads(content)
        if isinstance(found, dict) and {"host", "pid"} <= set(found):
            return found
    return {"host": "unknown", "pid": 0, "damaged": True}


def lease_owner(folder: Path) -> dict[str, Any] | None:
    """The owner of the folder (host, pid), or ``None`` if there is none or it is gone.

    A lease that cannot be read has an owner too, of an unknown host, until it is too old.
    """
    path = folder / LEASE
    content = _read(path)
    if content is None:
        return None
    owner = _owner(content)
    alive = is_alive(owner)
    if alive is not None:
        return owner if alive else None
    return owner if _age(path) < TIME_TO_LIVE else None


def _age(path: Path) -> float:
    """Seconds between a file's last touch and now, in either direction; infinite if it is gone.

    A touch in the future is as far from a living owner's as one in the past: a clock was wrong.
    """
    try:
        return abs(_server_time(path.parent) - path.stat().st_mtime)
    except FileNotFoundError:
        return float("inf")


@dataclass
class Lease:
    """Own ``folder`` while the ``with`` block runs.

    The folder is made if it is missing, and removed again if it is empty at the end.

    Args:
        folder: to own.
        on_lost: called, in another thread, when another process has taken the lease.

    Raises:
        LeaseHeldError: (on entering) another process owns it; the message names host and process.
        LeaseLostError: (on leaving) another process has taken it over.
    """

    folder: Path
    on_lost: Callable[[], object] | None = None

    def __post_init__(self) -> None:
        self._token = uuid.uuid4().hex
        self._path = self.folder / LEASE
        self._released = threading.Event()

    def __enter__(self) -> "Lease":
        self._content = json.dumps({**this_process(), "token": self._token}).encode()
        self._made = not self.folder.exists()
        self.folder.mkdir(parents=True, exist_ok=True)
        draft = self.folder / f".{LEASE}.{self._token}"
        try:
            with draft.open("wb") as stream:
                stream.write(self._content)
                stream.flush()
                os.fsync(stream.fileno())
            while not self._take(draft):
                time.sleep(0.05)
        except BaseException:
            draft.unlink(missing_ok=True)
            self._remove_folder()
            raise
        draft.unlink(missing_ok=True)
        self._remove_drafts()
        _mine[self.folder.absolute()] = self
        threading.Thread(target=self._renew, name="lease", daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._released.set()
        _mine.pop(self.folder.absolute(), None)
        found = _read(self._path)
        if found == self._content:
            self._remove_drafts()
            self._path.unlink(missing_ok=True)
        elif found is not None and not isinstance(error, LeaseLostError):
            raise self._lost(found) from error
        self._remove_folder()

    def check(self) -> None:
        """Look whether this process still owns the folder.

        Raises:
            LeaseLostError: it does not.
        """
        found = _read(self._path)
        if found != self._content:
            raise self._lost(found)

    def _lost(self, found: bytes | None) -> LeaseLostError:
        by = "somebody has removed its lease"
        if found is not None:
            owner = _owner(found)
            by = f"process {owner['pid']} on {owner['host']} has taken it over"
        return LeaseLostError(f"{self.folder} is no longer this process's: {by}")

    def _remove_drafts(self) -> None:
        """Those of processes that were killed while they took the lease; only its owner does so."""
        for draft in self.folder.glob(f".{LEASE}.*"):
            content = _read(draft)
            alive = None if content is None else is_alive(_owner(content))
            if alive is False or (alive is None and TIME_TO_LIVE < _age(draft) < float("inf")):
                draft.unlink(missing_ok=True)

    def _remove_folder(self) -> None:
        if self._made:
            with contextlib.suppress(OSError):  # it is not empty
                self.folder.rmdir()

    def _renew(self) -> None:
        while not self._released.wait(RENEW_EVERY):
            try:
                self.check()
                os.utime(self._path)
            except LeaseLostError:
                if self.on_lost is not None and not self._released.is_set():
                    self.on_lost()
                return
            except OSError:  # the file server does not answer; look again later
                continue

    def _take(self, draft: Path) -> bool:
        """Make ``draft`` the lease if there is none or a stale one; returns whether that worked."""
        try:
            _link(draft, self._path)
            return True
        except FileExistsError:
            stale = _read(self._path)
        if stale is None:
            return False
        if stale == self._content:  # a file server may repeat a link that it has already made
            return True
        if (owner := lease_owner(self.folder)) is not None:
            raise LeaseHeldError(self._in_use(owner))
        # Several processes may see the same stale lease. If each simply replaced it, the second
        # would take the lease that the first has just made. So a process first claims the stale
        # lease by a hard link, which only one of them gets, and then replaces it if it is still
        # the one it saw.
        claim = self.folder / f".{LEASE}.claim.{hashlib.sha256(stale).hexdigest()[:32]}"
        try:
            _link(draft, claim)
        except FileExistsError:
            if TIME_TO_LIVE < _age(claim) < float("inf"):  # the process that claimed has died
                claim.unlink(missing_ok=True)
            return False
        try:
            if _read(self._path) != stale:
                return False
            draft.replace(self._path)
            return True
        finally:
            claim.unlink(missing_ok=True)

    def _in_use(self, owner: dict[str, Any]) -> str:
        said = f"{self.folder} is in use by process {owner['pid']} on {owner['host']}"
        if owner.get("damaged"):
            said = f"{self.folder} is in use, and its {LEASE} is damaged, so nobody knows by whom"
        if is_alive(owner):
            return said
        left = max(1, round(TIME_TO_LIVE - min(_age(self._path), TIME_TO_LIVE)))
        return f"{said}; if that process is gone, the folder is free in {left} s"


_mine: dict[Path, Lease] = {}
"""The leases that this process holds, by folder."""


def check_lease(folder: Path) -> None:
    """Look whether this process still owns a folder whose lease it has taken.

    Does nothing for a folder whose lease this process never had: another process of the trial has
    it, or the trial runs without.

    Raises:
        LeaseLostError: another process has taken it over.
    """
    lease = _mine.get(folder.absolute())
    if lease is not None:
        lease.check()


def _link(draft: Path, path: Path) -> None:
    """Make ``path`` with the content of ``draft``, at once.

    Raises:
        FileExistsError: there is a file already.
    """
    try:
        os.link(draft, path)
    except FileExistsError:
        raise
    except OSError:  # this file system has no hard links
        with path.open("xb") as stream:
            try:
                stream.write(draft.read_bytes())
            except BaseException:
                path.unlink(missing_ok=True)
                raise
