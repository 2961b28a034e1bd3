"""Names and settings shared by the trial that writes a W&B run and the process that uploads it.

This module does not import wandb.
"""

import os
import re
from pathlib import Path
from typing import Any

PROJECT = "loss-ablations"  # default of WANDB_PROJECT
MODES = ("offline", "online", "disabled")
FOLDER = "wandb"  # beside a trial's record: wandb/offline-run-<time>-<run id>/run-<run id>.wandb
PROBLEM = "problem.txt"  # in it: why the newest run was not written to its end
_FORBIDDEN = "/\\#?%:"  # in the names of projects and teams

OFFLINE_SETTINGS: dict[str, Any] = {
    # Log only what the run is given, nothing about the machine or the code.
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
    # No wait may be long. A killed process loses at most two seconds of its log.
    "finish_timeout": 20.0,
    "init_timeout": 10.0,
    "x_service_wait": 10.0,
    "x_transaction_log_flush_interval": 2.0,
}


def mode(asked: str | None = None) -> str:
    """``asked``, else ``WANDB_MODE``, else ``offline``.

    Raises:
        ValueError: ``WANDB_MODE`` is none of ``MODES``; the message names them.
    """
    found = asked or os.environ.get("WANDB_MODE") or MODES[0]
    if found not in MODES:
        raise ValueError(f"WANDB_MODE is {found!r}; valid: {', '.join(MODES)}")
    return found


def check() -> None:
    """Refuse what W&B would refuse in the environment: its runs would be lost one by one.

    Raises:
        ValueError: a variable's value is not valid; one line names it, but no key.
    """
    found = {name: os.environ.get(f"WANDB_{name}") or "" for name in ("PROJECT", "ENTITY")}
    wrong = []
    for name, value in found.items():
        if value != value.strip() or not value.isprintable():
            wrong.append(f"WANDB_{name} is {value!r}: remove the white space")
        elif bad := sorted({letter for letter in value if letter in _FORBIDDEN}):
            line = f"WANDB_{name} is {value!r}: it may have none of {' '.join(bad)}"
            team, slash, rest = value.partition("/")
            if name == "PROJECT" and slash and team and rest:
                line += f"; write WANDB_ENTITY={team} WANDB_PROJECT={rest}"
            wrong.append(line)
        elif len(value) > 128:
            wrong.append(f"WANDB_{name} is {value[:20]}...: it may have 128 letters at most")
    key = os.environ.get("WANDB_API_KEY") or ""
    if not key.isascii() or not key.isprintable() or " " in key:
        wrong.append("WANDB_API_KEY has a space, a line end or another letter that no key has")
    tags = os.environ.get("WANDB_TAGS")
    if tags is not None and not all(0 < len(tag) <= 64 for tag in tags.split(",")):
        wrong.append(f"WANDB_TAGS is {tags!r}: a tag has 1 to 64 letters, with commas between tags")
    url = os.environ.get("WANDB_BASE_URL")
    if url is not None and not re.fullmatch(r"https?://[^\s/]+\S*", url):
        wrong.append(f"WANDB_BASE_URL is {url!r}: it is an address such as https://api.wandb.ai")
    if wrong:
        raise ValueError("; ".join(wrong))


def project() -> str:
    """The W&B project: ``WANDB_PROJECT``, else ``PROJECT``."""
    return os.environ.get("WANDB_PROJECT") or PROJECT


def run_id(sweep: str, trial_id: str) -> str:
    """The W&B id of a trial's run. It contains the sweep, because sweeps can share trials."""
    return re.sub(r"[^\w.-]", "-", f"{sweep}-{trial_id}")[-128:]


def tag(sweep: str) -> str:
    """The tag of all runs of a sweep."""
    return sweep[:64] or "sweep"


def keep_inside(folder: Path) -> None:
    """Make wandb write only inside ``folder`` in this process, and print nothing."""
    own = folder / FOLDER
    os.environ |= {
        "WANDB_DATA_DIR": str(own / "staging"),
        "WANDB_CACHE_DIR": str(own / "cache"),
        "WANDB_CONFIG_DIR": str(own / "settings"),
        "WANDB_SILENT": "true",
    }
    os.environ.pop("WANDB_SERVICE", None)  # a parent's service, which has other settings
