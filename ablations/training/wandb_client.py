"""The module ``wandb``, or ``None`` and the reason why it cannot be imported.

Importing wandb starts no service, so the fork server may do it once for all trials. It is imported
before torch, together with a part that ``wandb.init`` would import in every trial: that part scans
the docstrings of all imported modules, which takes a second once torch and mmdet are among them.
"""

import importlib
import os
from typing import Any

from ablations.store.wandb_names import OFFLINE_SETTINGS, mode

wandb: Any = None
problem = "WANDB_MODE is disabled"

if mode() != "disabled":
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    try:
        wandb = importlib.import_module("wandb")
        importlib.import_module("wandb.sdk.launch.inputs.internal")
    except Exception as error:
        problem = f"{type(error).__name__}: {error}"


def settings_errors() -> list[str]:
    """What wandb refuses in its environment variables, a line each; its runs would all be lost."""
    if wandb is None or mode() == "disabled":
        return []
    errors = []
    for name, value in sorted(os.environ.items()):
        if not name.startswith("WANDB_") or name == "WANDB_API_KEY":
            continue
        try:
            wandb.Settings(**OFFLINE_SETTINGS).update_from_env_vars({name: value})
        except AttributeError:  # another version of wandb: it will say so itself
            return []
        except Exception as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            why = lines[2 if len(lines) > 2 and "validation error" in lines[0] else 0]
            errors.append(f"{name} is {value!r}: {why.partition(' [type=')[0]}")
    return errors
