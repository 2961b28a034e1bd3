"""Check a plan before its first trial starts."""

import contextlib
import importlib
import multiprocessing
import os
import signal
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from ablations.store.processes import end_with_parent
from ablations.sweep.dataset import check_data
from ablations.sweep.entry_points import EntryPoints
from ablations.sweep.errors import UsageError
from ablations.sweep.launchers.fork_server import fork_server
from ablations.sweep.launchers.launcher import MAX_ATTEMPTS
from ablations.sweep.request import Request

_UNKNOWN = 255  # the exit status where the fork server was killed, which alone knows it
_KILLED = (_UNKNOWN, -signal.SIGKILL, -signal.SIGTERM)
"""Exit statuses of a check that was killed from outside, and is made again."""


def preflight(
    request: Request, entry_points: EntryPoints, share: bool, check_images: bool = False
) -> dict[str, Any]:
    """Check the plan, its data and its first batches, in a process that may import torch.

    If the trials share their data, the fork server cannot do this: it loads the data when it
    starts, and this check may have to make the data first. So the check gets a process of its own.

    Args:
        request: the plan.
        entry_points: of the training side.
        share: whether the trials will share their data.
        check_images: decode all images, however long that takes.

    Returns:
        ``notes`` to print and ``data`` for the records.

    Raises:
        UsageError: something is wrong with the plan; the message is one line.
    """
    seed = request.trials[0].seed
    configs = [trial.config for trial in request.trials if trial.seed == seed]
    arguments = entry_points, configs, request.work_dir, check_images
    for _ in range(MAX_ATTEMPTS):
        context: Any = multiprocessing.get_context("spawn")
        if not share:
            module = entry_points.check_configs.split(":")[0]
            context = fork_server([module], [(entry_points.remember_code,)])
        answer, status = _ask(context, arguments)
        if answer is not None:
            return _passed(answer)
        if status not in _KILLED:
            break
    raise UsageError(f"checking the plan ended with status {status}; see above")


def _ask(context: Any, arguments: tuple[Any, ...]) -> tuple[dict[str, Any] | None, int | None]:
    """The answer of a process that checks the plan, or ``None`` and the status it ended with."""
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_check, args=(sender, *arguments))
    try:
        process.start()
        sender.close()
        answer = receiver.recv()
        process.join()
        return answer, 0
    except (EOFError, OSError):
        if process.pid is None:  # the fork server was killed before it started one
            return None, _UNKNOWN
        process.join()
        return None, process.exitcode
    except BaseException:  # Ctrl-C: there is nothing that it would have to save
        if process.pid is not None:
            process.kill()
        raise


def preflight_without_torch(request: Request, check_images: bool = False) -> dict[str, Any]:
    """The part of ``preflight`` that needs no torch: check the data.

    Raises:
        UsageError: something is wrong with the data; the message is one line.
    """
    return _passed(check_data(request.trials[0].config, request.work_dir, check_images))


def _passed(answer: dict[str, Any]) -> dict[str, Any]:
    if answer["errors"]:
        raise UsageError("; ".join(answer["errors"][:3]))
    return answer


def _check(sender: Connection, *arguments: Any) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    end_with_parent(signal.SIGKILL, os.getppid())
    answer = check_plan(*arguments)
    with contextlib.suppress(BrokenPipeError):  # the command was killed meanwhile
        sender.send(answer)


def check_plan(
    entry_points: EntryPoints,
    configs: list[dict[str, Any]],
    work_dir: Path | None = None,
    check_images: bool = False,
) -> dict[str, Any]:
    """Check losses, detectors, data, weights and first batches, in this process.

    Args:
        entry_points: of the training side.
        configs: the resolved configs of the plan; those that differ in the seed alone may be left
            out.
        work_dir: the sweep's; gets the checked annotations.
        check_images: decode all images, however long that takes.

    Returns:
        ``errors``: one line each, empty when all is well; ``notes``: lines to print; ``data``: the
        record's ``data`` with the path of each annotation file.
    """
    answer: dict[str, Any] = {
        "errors": _call(entry_points.check_configs, configs),
        "notes": [],
        "data": {},
    }
    if not answer["errors"]:
        answer = check_data(configs[0], work_dir, check_images)
    if not answer["errors"]:
        answer["errors"] = _call(entry_points.fetch_weights, configs)
    if not answer["errors"]:
        found = answer["data"] if work_dir is not None else {}
        answer["errors"] = _call(entry_points.check_batches, configs, work_dir, found)
    return answer


def _call(entry_point: str, *arguments: Any) -> list[str]:
    module, function = entry_point.split(":")
    return getattr(importlib.import_module(module), function)(*arguments)
