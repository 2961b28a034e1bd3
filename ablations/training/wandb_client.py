"""wandb, if it can be had; ``None`` and the reason otherwise.

Importing it starts no service, so a fork server may do it once for all trials. It is imported
before torch, with what ``wandb.init`` would import in every trial: looking for doc strings, that
part goes through all modules there are, and costs a second once torch and mmdet are among them.
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
