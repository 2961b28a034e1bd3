"""Images that are decoded once and then kept, up to a limit of memory."""

from typing import Any

import numpy as np
from mmcv.transforms import LoadImageFromFile
from mmengine.registry import TRANSFORMS

_store: dict[str, np.ndarray] = {}
_stored_bytes = 0


@TRANSFORMS.register_module()
class LoadImageOnce(LoadImageFromFile):
    """mmcv's image loader with a memory of the decoded files.

    Args:
        limit_mb: the store of this process grows to this many megabytes; images beyond it are
            decoded each time. 0 switches the store off.
    """

    def __init__(self, limit_mb: int = 256, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.limit = limit_mb * 2**20

    def transform(self, results: dict[str, Any]) -> dict[str, Any] | None:
        """Fill in ``img`` [H, W, 3] and its shapes; later transforms get a copy of their own."""
        global _stored_bytes
        path = results["img_path"]
        image = _store.get(path)
        if image is None:
            loaded = super().transform(results)
            if loaded is None:
                return None
            if _stored_bytes + loaded["img"].nbytes <= self.limit:
                _store[path] = loaded["img"].copy()
                _stored_bytes += loaded["img"].nbytes
            return loaded
        results["img"] = image.copy()
        results["img_shape"] = image.shape[:2]
        results["ori_shape"] = image.shape[:2]
        return results
