"""The process that local trials are forked from.

Importing torch and mmdet takes about ten seconds of CPU time. One process imports them once and
every trial is forked from it, which takes milliseconds and shares the imported memory. A fork
copies only the thread that calls it and no CUDA context, so this process must never start a thread
or CUDA: a trial would deadlock or crash.
"""

import contextlib
import json
import multiprocessing
import os
import signal
import sys
from collections.abc import Sequence
from multiprocessing import forkserver

from ablations.machine import keep_sockets_short

CALLS = "ABLATIONS_FORK_SERVER_CALLS"
"""Environment variable that tells ``fork_server_start`` what to call."""

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


def fork_server(
    modules: Sequence[str], calls: Sequence[Sequence[str]] = ()
) -> "multiprocessing.context.ForkServerContext":
    """A context whose processes start with ``modules`` imported and ``calls`` made.

    Python has one fork server for each process. It imports and calls once, when it starts; later
    calls of this function change nothing, unless it was killed: then they start another.

    Args:
        modules: to import.
        calls: ``("module:function", argument, ...)`` each, made once, in this order.
    """
    keep_sockets_short()
    for name in _THREADS:
        os.environ.setdefault(name, "1")
    # Keeps torch.cuda.is_available() from initialising CUDA.
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    context = multiprocessing.get_context("forkserver")
    # Python makes every forked process import the main module again. With all that it imports
    # preloaded, that takes no time.
    command = sorted(name for name in sys.modules if name.startswith("ablations."))
    start = "ablations.sweep.launchers.fork_server_start"
    context.set_forkserver_preload([start, *command, *modules])
    # The variable is for the server alone: started here, it does not leave it to other children.
    os.environ[CALLS] = json.dumps([list(call) for call in calls])
    try:
        forkserver.ensure_running()
    finally:
        del os.environ[CALLS]
    return context


def server_id() -> int:
    """The process id of the fork server; 0 before there is one."""
    return getattr(forkserver._forkserver, "_forkserver_pid", None) or 0


def wake_server() -> None:
    """Let the fork server go on if somebody has stopped it: it tells how processes ended."""
    if number := server_id():
        with contextlib.suppress(ProcessLookupError):
            os.kill(number, signal.SIGCONT)
