"""The functions of the training side that a sweep calls, by name.

Planning must not import torch, so it does not import training either. The commands, which may
import both, hand these names in; they are imported in processes of their own.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class EntryPoints:
    """Each is ``"module:function"``."""

    run_trial: str  # (folder): runs one trial
    check_configs: str  # (configs) -> errors: builds what the plan would train
    check_planned: str  # (folders) -> errors: the same for trials that are on disk
    fetch_weights: str  # (configs) -> errors: makes pretrained weights available
    check_batches: str  # (configs, work_dir, data) -> errors: trains one step of each setting
    share_data: str  # (config's path): loads the training data for all forked trials
    remember_code: str  # (): takes down which state of the code was loaded
