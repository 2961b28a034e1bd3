"""Build `focal_cpu.c` on first use and call it: the fast path for float32 on the CPU.

The library is compiled for this machine's processor (about a second), kept in the user's cache
under a name that depends on source, flags, compiler and processor, and loaded with ctypes. Without
a C compiler, or with ``ABLATIONS_NATIVE=0``, `library` is None and the losses use PyTorch's
operators: slower, with the same numbers up to rounding.
"""

from __future__ import annotations

import ctypes
import hashlib
import math
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from ablations.losses.pairs import Pairs

SOURCE = Path(__file__).with_name("focal_cpu.c")
FLAGS = (
    "-O3 -march=native -fno-math-errno -fno-trapping-math -fopenmp-simd -std=gnu11 -shared -fPIC"
)
# Below this many elements a thread costs more than it saves.
ELEMENTS_A_THREAD = 500_000


@cache
def library() -> ctypes.CDLL | None:
    """The loaded library, built if necessary; None if it cannot be built or loaded."""
    if os.environ.get("ABLATIONS_NATIVE") == "0":
        return None
    try:
        loaded = ctypes.CDLL(str(build()))
    except (OSError, subprocess.CalledProcessError):
        return None
    pointer, count, number = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float
    loaded.focal_rows.argtypes = [pointer] * 3 + [count] * 2 + [number] * 3 + [pointer] * 2
    loaded.focal_rows.restype = ctypes.c_double
    return loaded


def build() -> Path:
    """Compile the source unless the cache holds the result; the library's path.

    Raises:
        OSError: no compiler, no source, or no place to write.
        subprocess.CalledProcessError: the compiler failed.
    """
    compiler = shlex.split(os.environ.get("CC", "")) or [shutil.which("cc") or "gcc"]
    version = subprocess.run([*compiler, "--version"], capture_output=True, check=True).stdout
    identity = [SOURCE.read_bytes(), FLAGS.encode(), version, processor().encode()]
    name = hashlib.sha256(b"\0".join(identity)).hexdigest()[:16]
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    target = Path(base) / "loss-ablations" / f"focal_cpu-{name}.so"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
            built = Path(scratch) / target.name
            command = [*compiler, *FLAGS.split(), "-o", str(built), str(SOURCE), "-lm"]
            subprocess.run(command, capture_output=True, check=True)
            built.replace(target)  # atomic: several processes may build at once
    return target


def processor() -> str:
    """What -march=native depends on. Machines that share a home directory may differ in it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.lower().startswith(("flags", "features")):
                return line
    return f"{platform.machine()} {platform.processor()}"


def fits(pairs: Pairs) -> bool:
    """Whether the library is available and can evaluate these pairs."""
    plain = pairs.logits.dtype == torch.float32 and pairs.compiled_gamma is not None
    return plain and library() is not None


def sum_loss(pairs: Pairs, loss: Tensor | None = None, gradient: Tensor | None = None) -> float:
    """Sum the loss of pairs that `fits`; also fill ``loss`` and ``gradient``, [N, C] float32.

    Raises:
        RuntimeError: `library` is None.
    """
    loaded = library()
    if loaded is None:
        raise RuntimeError("the native library is not available on this machine")
    count, classes = pairs.logits.shape
    weight = None if pairs.weight is None else pairs.weight.contiguous()
    tensors = [pairs.logits, pairs.target.long().contiguous(), weight, loss, gradient]
    factors = (pairs.compiled_gamma, *pairs.factors)

    def rows(first: int, last: int) -> float:
        addresses = [None if t is None else t[first:last].data_ptr() for t in tensors]
        sizes = (last - first, classes)
        return float(loaded.focal_rows(*addresses[:3], *sizes, *factors, *addresses[3:]))

    threads = min(torch.get_num_threads(), max(1, pairs.logits.numel() // ELEMENTS_A_THREAD))
    if threads == 1:
        return rows(0, count)
    edges = [count * index // threads for index in range(threads + 1)]
    with ThreadPoolExecutor(threads) as pool:  # ctypes releases the interpreter's lock
        return math.fsum(pool.map(rows, edges[:-1], edges[1:]))
