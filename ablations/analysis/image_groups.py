"""Which validation images belong together: crops of a photograph, frames of a video, one site.

The group of an image is what its entry in the validation annotations has under ``"group"``, or
under the key that the config names in ``dataset_info["group_key"]`` and the records carry as
``data["group_key"]``. It has no part in training, nor in a trial's id. An image that has none
is a group by itself; where no image has one, there are no groups.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ablations.analysis.study import Study
from ablations.store.arrays import read_arrays

GROUP_KEY = "group"


@dataclass(frozen=True)
class ImageGroups:
    """``count`` groups of the ``images`` that were scored, by what stands under ``key``."""

    key: str
    count: int
    images: int


def group_key(study: Study) -> str:
    """The key that the study's records name; ``GROUP_KEY`` where none does.

    Records from before the config named it follow those that have it.

    Raises:
        ValueError: they name several.
    """
    data = [state.record.data for state in study.records if state.record is not None]
    named = dict.fromkeys(str(found["group_key"]) for found in data if found.get("group_key"))
    if len(named) > 1:
        raise ValueError(
            f"the trials group their validation images by {' and by '.join(map(repr, named))}: "
            "give all configs the same dataset_info.group_key"
        )
    return next(iter(named), GROUP_KEY)


def find_groups(truth: dict[str, Any], predictions: Path, key: str) -> ImageGroups | None:
    """The groups of the images that a trial was scored on, or ``None`` if they have none.

    Args:
        truth: COCO annotations.
        predictions: of one trial, for the images that were scored.
        key: of the group in an image's entry.

    Raises:
        ValueError: the file of predictions is damaged.
    """
    if not any(image.get(key) is not None for image in truth.get("images", ())):
        return None
    ids = np.unique(read_arrays(predictions, ("image_ids",))["image_ids"]).astype(np.int64)
    numbers = group_numbers(truth, ids, key)
    return ImageGroups(key, int(numbers.max(initial=-1)) + 1, len(ids))


def group_numbers(
    truth: dict[str, Any], image_ids: NDArray[np.int64], key: str
) -> NDArray[np.int64]:
    """The number of each image's group, from 0 in the order of ``image_ids``: [images]."""
    named = {
        image["id"]: json.dumps(image[key], sort_keys=True)
        for image in truth["images"]
        if image.get(key) is not None
    }
    numbers: dict[object, int] = {}
    found = [numbers.setdefault(named.get(id, id), len(numbers)) for id in image_ids.tolist()]
    return np.array(found, dtype=np.int64)
