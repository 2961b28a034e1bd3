"""What the two sides of W&B agree on: the trial that writes a run, and the process that uploads it.

Nothing here imports wandb.
"""

import os
import re
from pathlib import Path
from typing import Any

PROJECT = "loss-ablations"  # unless WANDB_PROJECT says otherwise
MODES = ("offline", "online", "disabled")
FOLDER = "wandb"  # beside a trial's record: wandb/offline-run-<time>-<run id>/run-<run id>.wandb

OFFLINE_SETTINGS: dict[str, Any] = {
    # Nothing of the machine or the code but what the run is given.
    "console": "off",
    "disable_code": True,
    "disable_git": True,
    "disable_job_creation": True,
    "host": "-",
    "x_disable_machine_info": True,
    "x_disable_meta": True,
    "x_disable_stats": True,
    "x_save_requirements": False,
    "silent": True,
    # Nothing may take long; a killed process loses at most two seconds.
    "finish_timeout": 20.0,
    "init_timeout": 10.0,
    "x_service_wait": 10.0,
    "x_transaction_log_flush_interval": 2.0,
}


def mode(asked: str | None = None) -> str:
    """What was asked for, or else ``WANDB_MODE``, or else ``offline``.

    Raises:
        ValueError: ``WANDB_MODE`` is none of ``MODES``; the message names them.
    """
    found = asked or os.environ.get("WANDB_MODE") or MODES[0]
    if found not in MODES:
        raise ValueError(f"WANDB_MODE is {found!r}; valid: {', '.join(MODES)}")
    return found


def project() -> str:
    """W&B's project."""
    return os.environ.get("WANDB_PROJECT") or PROJECT


def run_id(sweep: str, trial_id: str) -> str:
    """W&B's id of a trial; sweeps share trials, so the sweep is part of it."""
    return re.sub(r"[^\w.-]", "-", f"{sweep}-{trial_id}")[-128:]


def tag(sweep: str) -> str:
    """What every run of a sweep is tagged with."""
    return sweep[:64]


def keep_inside(folder: Path) -> None:
    """Have wandb keep whatever it writes in this process inside ``folder``, and be quiet."""
    own = folder / FOLDER
    os.environ |= {
        "WANDB_DATA_DIR": str(own / "staging"),
        "WANDB_CACHE_DIR": str(own / "cache"),
        "WANDB_CONFIG_DIR": str(own / "settings"),
        "WANDB_SILENT": "true",
    }
    os.environ.pop("WANDB_SERVICE", None)  # somebody else's service, with other settings
