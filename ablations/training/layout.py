"""Memory layout: channels-last weights and batches."""

from dataclasses import dataclass
from typing import Any

import torch
from mmdet.models.data_preprocessors import DetDataPreprocessor
from mmdet.registry import MODELS
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor


@dataclass(frozen=True)
class Features:
    """What the frozen first part of a backbone made of an image or of a batch (``prefix``)."""

    values: Tensor  # [H, W, C] of an image, [N, C, H, W] in channels-last order of a batch
    image_shape: tuple[int, int]


@HOOKS.register_module()
class ChannelsLastHook(Hook):
    """Put the weights into channels-last order: convolutions on a CPU are faster with it.

    With several processes the weights stay as they are. DistributedDataParallel has already laid
    out its buckets when this hook runs, and would add up gradients of different orders.
    """

    def before_train(self, runner: Runner) -> None:
        """Reorder the weights in place."""
        if not is_model_wrapper(runner.model):
            runner.model.to(memory_format=torch.channels_last)


@MODELS.register_module()
class StackedPreprocessor(DetDataPreprocessor):
    """mmdet's preprocessor, in a few operations if all images of a batch have one size.

    Other batches, and those that need padding, go through mmdet's own code. The result is the same
    except for its channels-last order.
    """

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """As mmdet's: ``inputs`` float [N, 3, H, W], normalised, and the data samples. Images whose
        features are known come as ``Features``, and so does their batch."""
        images: list[Any] = data["inputs"]
        samples: Any = data.get("data_samples")
        if isinstance(images[0], Features):
            height, width = images[0].image_shape
            batch = torch.stack([image.values for image in images]).permute(0, 3, 1, 2)
            samples = self._prepared(samples, (height, width))
            return {"inputs": Features(batch, (height, width)), "data_samples": samples}
        if not self.is_plain(images, samples):
            return super().forward(data, training)
        batch, shape = self.normalised(images), tuple(images[0].shape[-2:])
        return {"inputs": batch, "data_samples": self._prepared(samples, shape)}

    def is_plain(self, images: Any, samples: Any) -> bool:
        """Whether a batch needs nothing but to be stacked and normalised."""
        height, width = images[0].shape[-2:]
        return (
            isinstance(images, list)
            and samples is not None
            and all(image.shape == images[0].shape for image in images)
            and height % self.pad_size_divisor == width % self.pad_size_divisor == 0
            and not (self.pad_mask or self.pad_seg or self.batch_augments)
            and self._enable_normalize
        )

    def normalised(self, images: list[Tensor]) -> Tensor:
        """Images of one size as one batch, float [N, 3, H, W] in channels-last order."""
        batch = torch.stack(images).to(self.device, non_blocking=True)
        batch = batch.to(self.mean.dtype)  # before the flip: bytes are slow to move on a CPU
        if self._channel_conversion:
            batch = batch.flip(1)
        batch.sub_(self.mean).div_(self.std)
        return batch.contiguous(memory_format=torch.channels_last)

    def _prepared(self, samples: Any, shape: tuple[int, int]) -> Any:
        """The samples on the batch's device, with the batch's size in their metainfo."""
        for sample in samples:
            if sample.metainfo.get("batch_input_shape") != shape:
                sample.set_metainfo({"batch_input_shape": shape, "pad_shape": shape})
        if self.device.type != "cpu":  # mmdet copies each sample even on a CPU
            samples = self.cast_data(samples)
        if self.boxtype2tensor:
            from mmdet.models.utils.misc import samplelist_boxtype2tensor

            samplelist_boxtype2tensor(samples)
        return samples
