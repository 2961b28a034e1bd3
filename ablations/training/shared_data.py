"""Imported by the process that trials are forked from: loads, once for all, what they all load.

The environment variable ``ABLATIONS_SHARE`` names the config of one of the trials. Where the data
cannot be loaded here, every trial loads its own and tells what is wrong.
"""

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
from ablations.sweep.files import read_json
from ablations.sweep.record import TRIAL
from ablations.training.checked_data import use_checked
from ablations.training.stream import share


def load() -> None:
    """Load the data set of the config's training loader, if that is a stream."""
    cv2.setNumThreads(0)  # no thread may be there when a trial is forked
    torch.set_num_threads(1)
    path = Path(os.environ["ABLATIONS_SHARE"])
    config = Config.fromfile(path)
    trial = read_json(path.with_name(TRIAL)) or {}
    use_checked(config, path.parent, trial.get("data", {}))  # as every trial does
    data = config.train_dataloader.dataset
    if data.type == "StreamDataset":
        with (
            DefaultScope.overwrite_default_scope(config.get("default_scope", "mmdet")),
            contextlib.redirect_stdout(io.StringIO()),
        ):
            share(data)
    gc.freeze()  # the collector would copy what is shared by looking at it


atexit.register(os._exit, 0)  # triton's bindings complain when an interpreter ends in order
try:
    load()
except Exception as error:
    warnings.warn(f"every trial loads its own data: {error}", stacklevel=1)
