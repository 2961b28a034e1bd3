"""Random images with random boxes, as a data loader gives them."""

from typing import Any

import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData


def labelled_images(count: int, size: int, classes: int, objects: int = 3) -> dict[str, Any]:
    """``count`` square images of ``size`` px with ``objects`` boxes each, always the same ones."""
    generator = torch.Generator().manual_seed(1)
    images, samples = [], []
    for number in range(count):
        shape = (3, size, size)
        images.append(torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8))
        corner = torch.rand(objects, 2, generator=generator) * size / 2
        sides = (torch.rand(objects, 2, generator=generator) + 1) * size / 4
        meta = {"img_id": number, "img_path": f"{number}.png", "img_shape": (size, size)}
        sample = DetDataSample(metainfo=meta)
        sample.gt_instances = InstanceData(
            bboxes=torch.cat([corner, corner + sides], 1),
            labels=torch.randint(0, classes, (objects,), generator=generator),
        )
        samples.append(sample)
    return {"inputs": images, "data_samples": samples}
