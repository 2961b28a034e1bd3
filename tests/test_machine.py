"""What a process may use: quotas of containers and jobs, and CUDA's rules for naming GPUs."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ablations import machine
from ablations.sweep.launchers.local import default_workers

GIB = 2**30


def lay_out(root: Path, cgroup: str, mounts: list[tuple[str, str, str]], files: dict) -> Path:
    """A ``/proc`` and control groups in ``root``; mounts are root, mount point, "type options"."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(cgroup)
    lines = []
    for number, (source, point, kind) in enumerate(mounts):
        name, _, options = kind.partition(" ")
        place = str(root / point).replace(" ", "\\040")
        lines.append(f"{30 + number} 25 0:{number} {source} {place} rw,nosuid - {name} x {options}")
    (root / "proc/self/mountinfo").write_text("\n".join(lines) + "\n")
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    return root / "proc"


V1 = [
    ("/", "cg/cpu", "cgroup rw,cpu,cpuacct"),
    ("/", "cg/memory", "cgroup rw,memory"),
    ("/", "cg/systemd", "cgroup rw,name=systemd"),
]
V2 = [("/", "cg", "cgroup2 rw,nsdelegate")]

CASES = {
    "version 2": ("0::/job\n", V2, {"cg/job/cpu.max": "300000 100000"}, 3, None),
    "a part of a core": ("0::/job\n", V2, {"cg/job/cpu.max": "50000 100000"}, 1, None),
    "one and a half": ("0::/job\n", V2, {"cg/job/cpu.max": "150000 100000"}, 2, None),
    "another period": ("0::/job\n", V2, {"cg/job/cpu.max": "50000 25000"}, 2, None),
    "no limit": (
        "0::/job\n",
        V2,
        {"cg/job/cpu.max": "max 100000", "cg/job/memory.max": "max"},
        None,
        None,
    ),
    "more than there is": (
        "0::/\n",
        V2,
        {"cg/cpu.max": "99900000 100000", "cg/memory.max": 2**62},
        None,
        None,
    ),
    "the group above is tighter": (
        "0::/pod/job\n",
        V2,
        {
            "cg/pod/cpu.max": "200000 100000",
            "cg/pod/job/cpu.max": "max 100000",
            "cg/pod/memory.max": GIB,
            "cg/pod/job/memory.max": 3 * GIB,
        },
        2,
        GIB,
    ),
    "memory is throttled before it is refused": (
        "0::/job\n",
        V2,
        {"cg/job/memory.high": GIB, "cg/job/memory.max": 2 * GIB},
        None,
        GIB,
    ),
    "version 1": (
        "5:memory:/job\n3:cpu,cpuacct:/job\n1:name=systemd:/elsewhere\n",
        V1,
        {
            "cg/cpu/job/cpu.cfs_quota_us": 300000,
            "cg/cpu/job/cpu.cfs_period_us": 100000,
            "cg/memory/job/memory.limit_in_bytes": GIB,
        },
        3,
        GIB,
    ),
    "version 1 without a limit": (
        "5:memory:/job\n3:cpu,cpuacct:/job\n",
        V1,
        {
            "cg/cpu/job/cpu.cfs_quota_us": -1,
            "cg/cpu/job/cpu.cfs_period_us": 100000,
            "cg/memory/job/memory.limit_in_bytes": 9223372036854771712,
        },
        None,
        None,
    ),
    "a container that sees its own group alone": (
        "5:memory:/docker/ab\n3:cpu,cpuacct:/docker/ab\n0::/docker/ab\n",
        [
            ("/docker/ab", "cg/cpu", "cgroup rw,cpu,cpuacct"),
            ("/docker/ab", "cg/memory", "cgroup rw,memory"),
        ],
        {
            "cg/cpu/cpu.cfs_quota_us": 100000,
            "cg/cpu/cpu.cfs_period_us": 100000,
            "cg/memory/memory.limit_in_bytes": GIB,
        },
        1,
        GIB,
    ),
    "a path that is not mounted": ("0::/../../x\n", V2, {"cg/memory.max": GIB}, None, GIB),
    "both versions": (
        "5:memory:/a\n0::/b\n",
        [("/", "cg/memory", "cgroup rw,memory"), ("/", "cg/unified", "cgroup2 rw")],
        {"cg/memory/a/memory.limit_in_bytes": GIB, "cg/unified/b/cpu.max": "100000 100000"},
        1,
        GIB,
    ),
    "a mount point with a space": (
        "0::/\n",
        [("/", "the groups", "cgroup2 rw")],
        {"the groups/cpu.max": "100000 100000"},
        1,
        None,
    ),
    "no control groups": ("", [], {}, None, None),
    "nonsense": ("x\n::\n\n", [("/", "cg", "cgroup2 rw")], {"cg/cpu.max": "many"}, None, None),
}


@pytest.mark.parametrize(
    ("cgroup", "mounts", "files", "cores", "memory"), CASES.values(), ids=CASES.keys()
)
def test_a_quota_is_what_there_is(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    cgroup: str,
    mounts: list,
    files: dict,
    cores: int | None,
    memory: int | None,
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    monkeypatch.setattr(machine, "PROC", lay_out(tmp_path, cgroup, mounts, files))
    assert machine.cpu_cores() == (cores or 64)
    assert machine.memory_bytes() == (memory or physical)


def test_pinned_cores_count_where_they_are_fewer_than_the_quota(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proc = lay_out(tmp_path, "0::/\n", V2, {"cg/cpu.max": "400000 100000"})
    monkeypatch.setattr(machine, "PROC", proc)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {7, 9}, raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert machine.cpu_cores() == default_workers(1) == 2
    assert default_workers(4) == 1


@contextlib.contextmanager
def real_groups(**limits: tuple[str, int]) -> Iterator[list[Path]]:
    """New control groups of version 1 below this process's own; a controller: file, value."""
    made: list[Path] = []
    try:
        for controller, (name, value) in limits.items():
            [own, *_] = [*machine._groups(controller), Path("/nowhere")]
            outer = own / f"ablations-test-{os.getpid()}"
            try:
                outer.mkdir()
                made.append(outer)
                (outer / name).write_text(str(value))
                (outer / "inner").mkdir()
            except OSError as error:
                pytest.skip(f"no control group can be made here: {error}")
            made.append(outer / "inner")
        yield made
    finally:
        for group in reversed(made):
            group.rmdir()


def test_the_kernels_own_files_are_understood() -> None:
    """A process in a group without limits, below one with limits."""
    limits = {"cpu": ("cpu.cfs_quota_us", 100_000), "memory": ("memory.limit_in_bytes", GIB)}
    with real_groups(**limits) as made:
        join = "; ".join(
            f"open({str(group / 'cgroup.procs')!r}, 'w').write(str(os.getpid()))"
            for group in made
            if group.name == "inner"
        )
        read = "from ablations import machine; print(machine.cpu_cores(), machine.memory_bytes())"
        done = subprocess.run(
            [sys.executable, "-c", f"import os; {join}; {read}"],
            capture_output=True,
            text=True,
            check=True,
        )
    assert done.stdout.split() == ["1", str(GIB)]


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        ("", []),
        (" ", []),
        ("-1", []),
        ("NoDevFiles", []),
        ("none", []),
        ("void", []),
        ("0,1", ["0", "1"]),
        (" 2 , 0 ", ["2", "0"]),
        ("0,-1,1", ["0"]),  # CUDA reads no further
        ("0,,1", ["0"]),
        ("0,NoDevFiles", ["0"]),
        ("1,1", []),  # nor does it use a list that names one twice
        ("GPU-8932f937-d72c-4106-c12f-20bd9faed9f6", ["GPU-8932f937-d72c-4106-c12f-20bd9faed9f6"]),
        ("GPU-89,GPU-90", ["GPU-89", "GPU-90"]),
        ("MIG-1,MIG-GPU-8/1/0", ["MIG-1", "MIG-GPU-8/1/0"]),
        ("GPU-", []),
    ],
)
def test_gpus_are_named_as_cuda_reads_them(
    monkeypatch: pytest.MonkeyPatch, named: str, expected: list[str]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    assert machine.visible_gpus() == expected
    assert default_workers(1) == (len(expected) or machine.cpu_cores())


LISTED = """\
GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-5d5ba0d6)
  MIG 3g.20gb     Device  0: (UUID: MIG-c6d4f1ef)
  MIG 3g.20gb     Device  1: (UUID: MIG-cba663e8)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-8932f937)
"""


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (f"cat <<'END'\n{LISTED}END", ["MIG-c6d4f1ef", "MIG-cba663e8", "1"]),
        ("echo 'No devices were found'; exit 6", []),
        ("echo 'NVIDIA-SMI has failed' >&2; exit 9", []),
        ("sleep 20", []),
    ],
)
def test_the_driver_lists_gpus_and_their_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, expected: list[str]
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n".replace("sleep", "exec sleep"))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(machine, "_NVIDIA_SMI_TIMEOUT", 0.5)
    assert machine.visible_gpus() == expected
