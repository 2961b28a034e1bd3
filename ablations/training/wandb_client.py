"""The module ``wandb``, or ``None`` and the reason why it cannot be imported.

Importing wandb starts no service, so the fork server may do it once for all trials. It is imported
before torch, together with a part that ``wandb.init`` would import in every trial: that part scans
the docstrings of all imported modules, which takes a second once torch and mmdet are among them.
"""

import importlib
import os
from typing import Any

from ablations.store.wandb_names import mode

wandb: Any = None
problem = "WANDB_MODE is disabled"

if mode() != "disabled":
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    try:
        wandb = importlib.import_module("wandb")
        importlib.import_module("wandb.sdk.launch.inputs.internal")
    except Exception as error:
        problem = f"{type(error).__name__}: {error}"
