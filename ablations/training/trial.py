"""Run one trial: read its folder, train, write its record. Every launcher calls this."""

import contextlib
import faulthandler
import functools
import multiprocessing
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import broadcast_object_list, get_world_size, is_main_process
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from ablations.machine import keep_sockets_short, threads
from ablations.store import record as files
from ablations.store.code import user_code
from ablations.store.config import config_text
from ablations.store.files import read_json, set_aside
from ablations.store.lease import Lease, LeaseHeldError, LeaseLostError
from ablations.store.processes import end_with_parent, ignore, tell_main_thread
from ablations.store.record import (
    DamagedRecordError,
    LaterRecordError,
    Record,
    read_record,
)
from ablations.store.status import read_status, update_status
from ablations.store.storage import NO_STORAGE, StorageError, trouble
from ablations.training import stopping
from ablations.training.checked_data import refuse_other_data, use_checked
from ablations.training.checkpoint import usable_checkpoint
from ablations.training.code import code_state, loaded_code
from ablations.training.distributed import distribute, join_group
from ablations.training.fingerprint import fingerprint
from ablations.training.loss_curve import Diverged
from ablations.training.outcome import Attempt, one_line, update, versions, write_outcome
from ablations.training.stopping import Interrupted
from ablations.training.wandb_backend import close_run
from ablations.training.watchdog import SLOW, Watchdog, WatchdogHook
from ablations.training.weights import check_unchanged

EXIT_STATUS = {
    **{"finished": 0, "diverged": 0, "failed": 1, "alone": 1},
    **{"no storage": NO_STORAGE, "elsewhere": 75, "hung": 124, "interrupted": 130},
}


class PlainConfig(Config):
    """A config that prints itself fast; mmengine formats it several times a run."""

    @property
    def pretty_text(self) -> str:
        """The config as Python source."""
        return config_text(self._cfg_dict.to_dict())


class TrialRunner(Runner):
    """mmengine's Runner, whose loaders' workers leave the signals to the trial.

    A batch system or a container stops all processes at once. A worker that ends at that makes the
    trial fail before it can save its state.
    """

    @staticmethod
    def build_dataloader(*args: Any, **kwargs: Any) -> DataLoader:
        """As mmengine's."""
        loader = Runner.build_dataloader(*args, **kwargs)
        loader.worker_init_fn = functools.partial(_begin_worker, loader.worker_init_fn, os.getpid())
        return loader


def _begin_worker(then: Callable[[int], object] | None, trial: int, number: int) -> None:
    end_with_parent(signal.SIGKILL, trial)
    ignore(*stopping.SIGNALS)
    if then is not None:
        then(number)


def run_trial(folder: Path) -> str:
    """Run or continue the trial in ``folder`` and write its record.

    Returns:
        ``finished``, ``diverged`` or ``failed``. If the trial has no record yet and must be
        resumed: ``interrupted``, ``alone`` (another of its processes died), ``elsewhere``
        (another process has taken the trial over from this one), or ``no storage`` (its files
        could not be written).

    Raises:
        LeaseHeldError: another process runs this trial.
        LaterRecordError: a later version of this code has written its record.
    """
    attempt = Attempt(folder)
    watchdog = Watchdog(functools.partial(_end_hung, attempt)).start()
    stop = functools.partial(tell_main_thread, signal.SIGTERM)
    try:
        with stopping.listening():
            join_group()
            with Lease(folder, stop) if is_main_process() else contextlib.nullcontext():
                return _run(attempt, watchdog)
    except LeaseLostError as error:
        print(f"stopped: {error}", flush=True)
        return "elsewhere"
    except Interrupted:  # before the trial was begun
        return "interrupted"
    except (OSError, RuntimeError) as error:
        why = str(error) if isinstance(error, StorageError) else trouble(error, folder)
        if isinstance(error, LeaseHeldError) or not why:
            raise
        with contextlib.suppress(OSError):  # the log is on that disk too
            print(f"stopped: {why}", flush=True)
        with contextlib.suppress(OSError, LeaseLostError):
            update(attempt, state="interrupted", reason=why)
        return "no storage"
    finally:
        watchdog.end()


def _run(attempt: Attempt, watchdog: Watchdog) -> str:
    folder = attempt.folder
    if (done := _read_record(folder)) is not None:
        return done.status
    code_state(), loaded_code()  # now: the checkout may change meanwhile
    attempt.before = read_status(folder).get("attempts", [])
    attempt.trial = read_json(folder / files.TRIAL)
    update(attempt, state="starting", reason=None, note=None)
    try:
        attempt.code, attempt.versions = dict(loaded_code()), versions()
        attempt.runner = _build_runner(attempt, watchdog)
        attempt.protocol = fingerprint(attempt.runner.cfg, get_world_size())
        attempt.runner.train()
        outcome: tuple[files.Status, str | None] = "finished", None
    except Diverged as error:
        outcome = "diverged", str(error)
    except LeaseLostError:
        raise
    except (Interrupted, KeyboardInterrupt) as error:
        return _interrupted(attempt, f"stopped by {error or 'SIGINT'}")
    except Exception as error:
        stopping.at_once(False)
        attempt.reserve.clear()
        traceback.print_exc()
        if _lost_worker(error):
            if (told := stopping.told()) is not None:
                return _interrupted(attempt, f"stopped by {told.name}")
            update(attempt, state="interrupted", reason=one_line(error))
            return "alone"
        if _another_is_gone(error):
            update(attempt, state="interrupted", reason="another process of the trial is gone")
            return "alone"
        if why := trouble(error, folder):
            raise StorageError(why) from error
        outcome = "failed", one_line(error)
    stopping.at_once(False)
    watchdog.allow(SLOW)
    return write_outcome(attempt, *outcome)


def _interrupted(attempt: Attempt, reason: str) -> str:
    update(attempt, state="interrupted", reason=reason)
    close_run(attempt.runner, "interrupted")
    return "interrupted"


def _end_hung(attempt: Attempt, seconds: float) -> None:
    """End this process, whose trial makes no progress; its main thread can do nothing for it."""
    done = f" after iteration {attempt.runner.iter}" if attempt.runner is not None else ""
    reason = f"no progress for {seconds:.0f} s{done}"
    print(f"{reason}; this is where it hangs:", file=sys.stderr, flush=True)
    faulthandler.dump_traceback(2)
    try:
        if attempt.trial:
            update(attempt, state="hung", reason=reason)
    finally:
        os._exit(EXIT_STATUS["hung"])


def _read_record(folder: Path) -> Record | None:
    """The trial's record; a damaged one is set aside, and the trial runs again."""
    try:
        return read_record(folder)
    except LaterRecordError:
        raise
    except DamagedRecordError as error:
        if is_main_process():
            kept = set_aside(folder / files.RECORD)
            print(f"{error}; it is now {kept.name}, and the trial runs again", flush=True)
        return None


def _lost_worker(error: Exception) -> bool:
    """Whether this process failed only because a worker of a loader was killed."""
    return bool(re.search(r"DataLoader worker \(pid.*\) (is killed|exited)", str(error)))


def _another_is_gone(error: Exception) -> bool:
    """Whether this process failed only because another process of the trial is gone."""
    lost = isinstance(error, torch.distributed.DistError) or "by peer" in str(error)
    return get_world_size() > 1 and lost


def _build_runner(attempt: Attempt, watchdog: Watchdog) -> Runner:
    """mmengine's Runner for the trial's config; it resumes from a checkpoint if there is one.

    ``hung_after_s`` of the config is the watchdog's limit.
    """
    folder, trial = attempt.folder, attempt.trial
    cfg = PlainConfig(Config.fromfile(folder / files.CONFIG)._cfg_dict)
    cfg.work_dir = str(folder)
    evaluator = cfg.get("val_evaluator")
    if isinstance(evaluator, dict) and evaluator.get("type") == "BoxAP":
        evaluator["outfile"] = str(folder / files.PREDICTIONS)
        evaluator["collect_dir"] = str(folder / ".collected")
    use_checked(cfg, folder, trial["data"])
    distribute(cfg)
    check_unchanged(cfg, trial.get("identity", {}))
    say = functools.partial(_tell, folder)
    found = [usable_checkpoint(folder, say) if is_main_process() else None]
    broadcast_object_list(found)
    if found[0] is not None:
        cfg.load_from = str(found[0])
        cfg.resume = True
    refuse_other_data(folder, trial["data"])
    attempt.code |= _check_code(trial, cfg)
    # Deterministic mode also fills every new tensor, so that reading uninitialised memory gives the
    # same values each time. That costs 5 % of the time, and nothing here reads such memory.
    setattr(torch.utils.deterministic, "fill_uninitialized_memory", False)  # noqa: B010
    runner = TrialRunner.from_cfg(cfg)
    watchdog.limit = cfg.get("hung_after_s")
    runner.register_hook(WatchdogHook(watchdog))
    return runner


def _tell(folder: Path, line: str) -> None:
    """Say something in the trial's log, and to whoever watches the sweep."""
    print(line, flush=True)
    update_status(folder, note=line)


def _check_code(trial: dict[str, Any], cfg: Config) -> dict[str, str]:
    """The user's code that the config has imported, if it is what the trial was planned with.

    Raises:
        ValueError: a module has changed; the message names it.
    """
    found = user_code(cfg)
    planned = trial.get("identity", {}).get("code", {})
    changed = sorted(name for name in {*found, *planned} if found.get(name) != planned.get(name))
    if changed:
        raise ValueError(f"{', '.join(changed)} has changed since the trial was planned")
    return found


def main(folder: str) -> None:
    """Run one trial in a launcher's process, with its output in the trial's log.

    Exits with 0 for a finished or diverged trial, 1 for a failed trial or one that lost a process,
    74 for one whose files could not be written, 75 for one that another process runs, 124 for one
    that hung, 130 for an interrupted trial.
    """
    path = Path(folder)
    try:
        with (path / files.LOG).open("a") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
    except OSError:
        sys.exit(NO_STORAGE)
    keep_sockets_short()  # those of the loaders' workers
    if not torch.cuda.is_available():
        torch.set_num_threads(threads())
    try:
        outcome = run_trial(path)
    except LeaseHeldError as error:
        print(error, flush=True)
        outcome = "elsewhere"
    for child in multiprocessing.active_children():  # loaders' workers, which ignore signals
        child.kill()
    sys.exit(EXIT_STATUS[outcome])
