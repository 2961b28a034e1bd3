"""Several processes of one trial: they connect, train together, and stop together.

Every launcher sets torch's environment variables (RANK, LOCAL_RANK, WORLD_SIZE, MASTER_ADDR,
MASTER_PORT). The processes communicate through NCCL on CUDA, else through gloo.
"""

import os
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import all_reduce, get_world_size
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner


def join_group() -> None:
    """Connect to the trial's other processes; does nothing if there are none."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or torch.distributed.is_initialized():
        return
    backend = "gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        backend = "nccl"
    torch.distributed.init_process_group(backend)


def distribute(cfg: Config) -> None:
    """Make mmengine's Runner train in the process group. (Its own set-up needs CUDA.)"""
    if get_world_size() == 1:
        return
    cfg.launcher = "pytorch"  # any but "none"; the group exists already
    if not torch.cuda.is_available():
        cfg.model_wrapper_cfg = dict(
            type="MMDistributedDataParallel", device_ids=None, broadcast_buffers=False
        )


def bare_model(runner: Runner) -> Any:
    """The runner's model, without the wrapper that several processes need."""
    return runner.model.module if is_model_wrapper(runner.model) else runner.model


def in_any_process(flag: bool) -> bool:
    """Whether ``flag`` is set in any of the trial's processes; all of them must call this."""
    if get_world_size() == 1:
        return flag
    found = torch.tensor(int(flag))
    all_reduce(found, "max")
    return bool(found)
