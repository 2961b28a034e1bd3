"""Runs inside a trial: the trial itself, and the types that configs name beyond mmdet's.

Importing this package registers the losses, the head, the data stream and the hooks, so a config
needs one line: ``custom_imports = dict(imports=['ablations.training'])``.
"""

# isort: off
from ablations.training import wandb_client  # noqa: F401 - before torch, which it explains

# isort: on
from ablations.training.data_only import load_data_only
from ablations.training.torchvision_compat import declare_missing_operators

load_data_only()
declare_missing_operators()

from ablations.losses import modules, ohem, softmax  # noqa: E402, F401
from ablations.training.mmcv_compat import mend_operators  # noqa: E402
from ablations.training.mmdet_compat import mend_ssd_head  # noqa: E402

mend_operators()
mend_ssd_head()

from ablations.training import (  # noqa: E402
    checkpoint,  # noqa: F401
    imbalance,  # noqa: F401
    layout,  # noqa: F401
    loss_curve,  # noqa: F401
    metric,  # noqa: F401
    prefix,  # noqa: F401
    probabilities,  # noqa: F401
    progress,  # noqa: F401
    stream,  # noqa: F401
    targets,  # noqa: F401
    wandb_backend,  # noqa: F401
)
