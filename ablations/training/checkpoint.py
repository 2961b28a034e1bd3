"""Checkpoints: a trial resumes from them exactly. They are whole or absent, and hold no code."""

import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from ablations.store.files import put_in_place, removed_on_failure, set_aside
from ablations.store.lease import check_lease
from ablations.store.record import CHECKPOINT, PREVIOUS
from ablations.training import stopping
from ablations.training.distributed import in_any_process
from ablations.training.stopping import Interrupted


@HOOKS.register_module()
class ResumableCheckpointHook(Hook):
    """Keep a checkpoint, ``checkpoint.pth``, from which the trial resumes bit-identically, and the
    one before it.

    It holds mmengine's weights, optimizer and schedules, and the states of the random generators.
    mmengine's message hub (smoothed log values) is left out: it cannot be loaded with
    ``weights_only=True``, and results do not depend on it. On SIGTERM, SIGINT, SIGHUP or SIGUSR2
    the trial writes a checkpoint at the end of the iteration and raises ``Interrupted``. During an
    evaluation it stops at once, because the training was saved before.

    Args:
        interval: iterations between checkpoints.
        signals: catch the signals; set to False where the process is not the trial's own.
        agree_every: iterations between two agreements of a trial's processes whether to stop.
    """

    priority = "VERY_LOW"  # after the hooks whose state goes into the checkpoint

    def __init__(self, interval: int = 250, signals: bool = True, agree_every: int = 10) -> None:
        self.interval = interval
        self.signals = signals
        self.agree_every = agree_every
        self._stop = False

    def before_train(self, runner: Runner) -> None:
        """Start listening for the signals; from here on there is something to save."""
        if self.signals:
            stopping.listen()
        stopping.at_once(False)

    def after_train_iter(self, runner: Runner, *_args: Any, **_kwargs: Any) -> None:
        """Write a checkpoint if one is due; stop if a signal came."""
        done = runner.iter + 1
        self._agree(done)
        if self._stop or done % self.interval == 0:
            self._save(runner, done)
        self._stop_if_told()

    def before_val(self, runner: Runner) -> None:
        """Save the training before the evaluation."""
        if runner.iter and runner.iter % self.interval:
            self._save(runner, runner.iter)
        if self.signals and get_world_size() == 1:  # several processes must stop together
            stopping.at_once(True)

    def after_val_iter(self, runner: Runner, batch_idx: int, *_args: Any, **_kwargs: Any) -> None:
        """Stop if a signal came; the evaluation will be repeated."""
        self._agree(batch_idx)
        self._stop_if_told()

    def after_val(self, runner: Runner) -> None:
        """There is something to save again."""
        stopping.at_once(False)

    def _agree(self, step: int) -> None:
        """Agree with the trial's other processes: all must stop after the same step."""
        if get_world_size() == 1 or step % self.agree_every == 0:
            self._stop = in_any_process(self.signals and stopping.told() is not None)

    def _stop_if_told(self) -> None:
        if self._stop:
            told = stopping.told()
            raise Interrupted("another process" if told is None else told.name)

    def _save(self, runner: Runner, iterations: int) -> None:
        if not is_main_process():
            return
        folder = Path(runner.work_dir)
        check_lease(folder)
        draft = f".{CHECKPOINT}.draft"
        with removed_on_failure(folder / draft):
            runner.save_checkpoint(
                runner.work_dir, draft, by_epoch=False, meta=dict(iter=iterations, epoch=0)
            )
        if (folder / CHECKPOINT).exists():
            (folder / CHECKPOINT).replace(folder / PREVIOUS)
        put_in_place(folder / draft, folder / CHECKPOINT)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Add the states of the random generators; remove the message hub."""
        checkpoint["message_hub"] = {}
        checkpoint["random_states"] = random_states()

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Restore the random generators."""
        checkpoint["message_hub"] = runner.message_hub.state_dict()
        if "random_states" in checkpoint:
            restore_random_states(checkpoint["random_states"])


def usable_checkpoint(folder: Path, say: Callable[[str], object] = print) -> Path | None:
    """The latest checkpoint of the trial in ``folder`` that is whole; a damaged one is set aside.

    Args:
        folder: the trial's.
        say: called with a line for each damaged file.
    """
    for name, instead in ((CHECKPOINT, "the one before"), (PREVIOUS, "the beginning")):
        path = folder / name
        if not path.is_file():
            continue
        if (why := _damage(path)) is None:
            return path
        kept = set_aside(path)
        say(f"{path} is damaged ({why}) and now {kept.name}; the trial continues from {instead}")
    return None


def _damage(path: Path) -> str | None:
    """What is wrong with a file that ``torch.save`` has written; it has a checksum of each part,
    which ``torch.load`` alone does not compare."""
    try:
        with zipfile.ZipFile(path) as stored:
            if torn := stored.testzip():
                return f"{torn} has another checksum"
        torch.load(path, map_location="cpu", mmap=True, weights_only=True)
        return None
    except Exception as error:  # both raise what they like on a damaged file
        return " ".join(str(error).split()) or type(error).__name__


def random_states() -> dict[str, Any]:
    """The states of Python's, NumPy's, torch's and CUDA's random generators, as plain data."""
    kind, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    plain = torch.from_numpy(np.asarray(keys, dtype=np.int64))  # torch 2.4 cannot save a uint32
    return {
        "python": random.getstate(),
        "numpy": [kind, plain, position, has_gauss, gauss],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_random_states(states: dict[str, Any]) -> None:
    """Restore what ``random_states`` returned."""
    random.setstate(states["python"])
    kind, keys, position, has_gauss, gauss = states["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), position, has_gauss, gauss))
    torch.set_rng_state(states["torch"].cpu())
    if states["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all([state.cpu() for state in states["cuda"]])
