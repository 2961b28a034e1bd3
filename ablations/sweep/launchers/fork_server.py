"""The process that local trials are forked from.

Importing torch and mmdet takes seconds, so one process imports them once and every trial is a fork
of it. That process must not touch CUDA (a fork would not survive it) and must not have threads.
"""

import json
import multiprocessing
import os
import sys
from collections.abc import Sequence

CALLS = "ABLATIONS_FORK_SERVER_CALLS"
"""Environment variable: what ``fork_server_start`` is to call."""

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


def fork_server(
    modules: Sequence[str], calls: Sequence[Sequence[str]] = ()
) -> "multiprocessing.context.ForkServerContext":
    """A context whose processes start with ``modules`` imported and ``calls`` made.

    There is one fork server in a process: what it has imported and called stays as it was when the
    first process was started.

    Args:
        modules: to import.
        calls: ``("module:function", argument, ...)`` each, made once, in this order.
    """
    for name in _THREADS:
        os.environ.setdefault(name, "1")
    # Keeps torch.cuda.is_available() from initialising CUDA.
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    os.environ[CALLS] = json.dumps([list(call) for call in calls])
    context = multiprocessing.get_context("forkserver")
    # Every process imports the command's own module again, and what that imports.
    command = sorted(name for name in sys.modules if name.startswith("ablations."))
    start = "ablations.sweep.launchers.fork_server_start"
    context.set_forkserver_preload([start, *command, *modules])
    return context
