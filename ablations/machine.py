"""Cores, GPUs, memory and free ports that this process may use, found without torch.

A container or a batch job may have fewer cores and less memory than its machine: they are limited
by control groups. The files of both versions are read, from the process's own group up to the root,
since each group above it limits it too.
"""

import contextlib
import math
import multiprocessing.util
import os
import re
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

PROC = Path("/proc")
_NVIDIA_SMI_TIMEOUT = 60.0  # seconds; a broken driver may never answer
_SOCKET_FOLDER = 107 - len("/pymp-12345678/listener-12345678")  # bytes of its path at most
_GPU_NAME = re.compile(r"\d+|(GPU|MIG)-\S+")


def visible_gpus() -> list[str]:
    """Ids of the GPUs this process may use, as ``CUDA_VISIBLE_DEVICES`` names them.

    Where that variable is set it is read as CUDA reads it: the list ends at the first name that is
    none of a GPU (``-1``, or Slurm's ``NoDevFiles``), and one that names a GPU twice names none.
    """
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    found = _listed_gpus() if named is None else []
    for name in (named or "").split(","):
        if not _GPU_NAME.fullmatch(name.strip()):
            break
        found.append(name.strip())
    return found if len(set(found)) == len(found) else []


def _listed_gpus() -> list[str]:
    """The GPUs of this machine; of one that is divided (MIG), its parts."""
    if shutil.which("nvidia-smi") is None:
        return []
    try:
        listed = subprocess.run(
            ["nvidia-smi", "-L"],
            capture_output=True,
            text=True,
            check=False,
            timeout=_NVIDIA_SMI_TIMEOUT,
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    gpus: list[list[str]] = []
    for line in listed.stdout.splitlines():
        if line.startswith("GPU "):
            gpus.append([])
        elif gpus and (part := re.search(r"UUID: (MIG-[^)\s]+)", line)):
            gpus[-1].append(part[1])
    return [name for number, parts in enumerate(gpus) for name in parts or [str(number)]]


def cpu_cores() -> int:
    """Cores this process may use; a part of a core counts as one."""
    cores = len(os.sched_getaffinity(0))
    for group in _groups("cpu"):
        limit = _numbers(group / "cpu.max") or [
            *_numbers(group / "cpu.cfs_quota_us"),
            *_numbers(group / "cpu.cfs_period_us"),
        ]
        if len(limit) == 2 and min(limit) > 0:
            cores = min(cores, math.ceil(limit[0] / limit[1]))
    return cores


def threads() -> int:
    """Threads of a trial on a CPU: ``OMP_NUM_THREADS``, the first number if it lists several.

    Raises:
        ValueError: it is no number.
    """
    asked = os.environ.get("OMP_NUM_THREADS") or "1"
    first = asked.split(",")[0].strip()
    if not re.fullmatch("0*[1-9][0-9]{0,3}", first):
        raise ValueError(f"OMP_NUM_THREADS is {asked!r}; it must be a whole number from 1 to 9999")
    return int(first)


def memory_bytes() -> int:
    """Bytes of memory this process may use."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for group in _groups("memory"):
        for name in ("memory.max", "memory.high", "memory.limit_in_bytes"):
            memory = min([memory, *(limit for limit in _numbers(group / name) if limit > 0)])
    return memory


def _groups(controller: str) -> Iterator[Path]:
    """Folders of the control groups that limit this process, its own first.

    ``/proc/self/cgroup`` has a line ``number:controllers:path`` for each hierarchy (version 2 names
    no controllers), ``/proc/self/mountinfo`` says which of its folders is mounted where.
    """
    paths = {}
    for line in _lines(PROC / "self/cgroup"):
        _, names, path = [*line.split(":", 2), "", ""][:3]
        for name in names.split(","):
            paths[name] = path
    for line in _lines(PROC / "self/mountinfo"):
        mounted, _, source = line.partition(" - ")
        fields, kind = mounted.split(), source.split()
        if len(fields) < 5 or not kind:
            continue
        version_1 = kind[0] == "cgroup" and controller in kind[-1].split(",")
        if not version_1 and kind[0] != "cgroup2":
            continue
        root, mount = (_unescaped(name) for name in fields[3:5])
        own = PurePosixPath(paths.get(controller if version_1 else "", "/"))
        # It is outside what is mounted where a container sees its own group alone.
        group = Path(mount, own.relative_to(root) if own.is_relative_to(root) else "")
        yield from (each for each in (group, *group.parents) if each.is_relative_to(mount))


def _unescaped(name: str) -> str:
    """A path of ``mountinfo``, which writes spaces as ``\\040``."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), name)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


def _numbers(path: Path) -> list[int]:
    """The numbers in a file of a control group; ``max`` is -1, and there are none without it."""
    return [
        int(word) if word.lstrip("-").isdigit() else -1
        for line in _lines(path)[:1]
        for word in line.split()
    ]


def keep_sockets_short() -> None:
    """Have multiprocessing put its sockets where their paths are short enough for the kernel.

    It puts them into ``TMPDIR``, below a folder of its own; but a socket's path may have 107 bytes.
    Everything else stays in ``TMPDIR``. Processes that are forked from this one inherit the place.
    """
    before = tempfile.tempdir
    if len(os.fsencode(tempfile.gettempdir())) <= _SOCKET_FOLDER:
        return
    for folder in ("/tmp", "/var/tmp", "/dev/shm"):
        if os.access(folder, os.W_OK | os.X_OK):
            tempfile.tempdir = folder
            try:
                multiprocessing.util.get_temp_dir()  # made once, and removed at the end
            finally:
                tempfile.tempdir = before
            return


def free_port() -> int:
    """A TCP port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def description() -> str:
    """The machine in words: its GPUs, or its processor and cores; never its host name."""
    gpus = visible_gpus()
    if gpus:
        return f"{len(gpus)} GPU(s)"
    model = "CPU"
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    return f"{model}, {cpu_cores()} cores"
