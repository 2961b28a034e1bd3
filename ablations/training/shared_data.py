"""Load the training data once, for all trials that are forked from this process."""

import atexit
import contextlib
import gc
import io
import os
import warnings
from pathlib import Path

import cv2
import torch
import torch._inductor  # use_deterministic_algorithms does it in every trial
from mmengine.config import Config
from mmengine.registry import DefaultScope

import ablations.training.trial  # noqa: F401
from ablations.store.files import read_json
from ablations.store.record import TRIAL
from ablations.training.checked_data import use_checked
from ablations.training.prefix import share_prefix
from ablations.training.stream import share


def load(config: str) -> None:
    """Load the training data, and compute the backbone's frozen prefix, for all forked trials.

    If it cannot be loaded here, every trial loads its own and reports the error.

    Args:
        config: path of the config of one of the trials; they read the same data.
    """
    # Triton's bindings print errors in a normal exit of an interpreter that has imported them.
    atexit.register(os._exit, 0)
    try:
        _load(Path(config))
    except Exception as error:
        warnings.warn(f"every trial loads its own data: {error}", stacklevel=1)


def _load(path: Path) -> None:
    config = Config.fromfile(path)
    trial = read_json(path.with_name(TRIAL)) or {}
    use_checked(config, path.parent, trial.get("data", {}))  # as every trial does
    cv2.setNumThreads(0)  # a fork server must not have threads
    torch.set_num_threads(1)
    data = config.train_dataloader.dataset
    if data.type == "StreamDataset":
        with (
            DefaultScope.overwrite_default_scope(config.get("default_scope", "mmdet")),
            contextlib.redirect_stdout(io.StringIO()),
        ):
            stream = share(data)
            share_prefix(config, stream)
    gc.freeze()  # the collector writes to objects, which would copy the shared memory
