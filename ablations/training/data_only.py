"""Checkpoints and weights are data: torch must not run code that one of them holds."""

import os


def load_data_only() -> None:
    """Have ``torch.load`` refuse code in this process, and in those that it starts.

    Without this, torch would run what is in its cache of downloaded weights. A variable that lets
    it run code everywhere is removed; people set it because mmengine cannot load its own
    checkpoints otherwise, which ``ResumableCheckpointHook`` has put right.
    """
    os.environ.pop("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", None)
    os.environ.setdefault("TORCH_FORCE_WEIGHTS_ONLY_LOAD", "1")
