"""Compute the output of a backbone's frozen first part once, for all trials of a sweep.

RetinaNet's usual protocol freezes the stem, the first stage and the statistics of batch norm. For
images without augmentation the output of that part is the same in every trial and every epoch. The
process that trials are forked from computes it once, in batches of the training's size, so that
every value equals the one that a trial would compute.

A trial takes the features only if its own frozen weights are, byte for byte, those that made them.
Without them it computes its own, as mmdet does. On a GPU, in several processes and with
augmentation there are none.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import torch
from mmdet.models.backbones import ResNet
from mmdet.models.detectors import SingleStageDetector, TwoStageDetector
from mmdet.registry import MODELS
from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from mmengine.runner.checkpoint import CheckpointLoader
from torch import Tensor, nn

from ablations.training.distributed import bare_model
from ablations.training.layout import Features, StackedPreprocessor
from ablations.training.stream import StreamDataset


@MODELS.register_module()
class PrefixResNet(ResNet):
    """mmdet's ResNet, which can also start after its frozen stages."""

    def prefix(self, images: Tensor) -> Tensor:
        """The output of the stem and the frozen stages for images [N, 3, H, W]."""
        x = self.stem(images) if self.deep_stem else self.relu(self.norm1(self.conv1(images)))
        x = self.maxpool(x)
        for name in self.res_layers[: self.frozen_stages]:
            x = getattr(self, name)(x)
        return x

    def forward(self, x: Tensor | Features) -> tuple[Tensor, ...]:
        """The outputs of the stages in ``out_indices``, of images or of their prefix."""
        if not isinstance(x, Features):
            return super().forward(x)
        last, made = self.frozen_stages - 1, x.values
        outputs = [made] if last in self.out_indices else []
        for number, name in enumerate(self.res_layers[last + 1 :], last + 1):
            made = getattr(self, name)(made)
            if number in self.out_indices:
                outputs.append(made)
        return tuple(outputs)


@dataclass(frozen=True)
class _Shared:
    """The features of all training images, and what they were made of."""

    dataset: Any
    features: list[Features]
    batch_size: int
    made_by: str


_shared: _Shared | None = None


def share_prefix(config: dict[str, Any], stream: StreamDataset) -> None:
    """Compute the features of a stream's images for all processes that this one will fork.

    Does nothing if the config, the data or the memory do not allow it.

    Args:
        config: a trial's resolved config.
        stream: its training data, all of whose images are kept.
    """
    global _shared
    if torch.cuda.is_available() or len(stream.kept) < len(stream) or stream.prefix_room <= 0:
        return
    backbone = MODELS.build(config["model"]["backbone"])
    preprocessor = MODELS.build(config["model"]["data_preprocessor"])
    weights = (config["model"]["backbone"].get("init_cfg") or {}).get("checkpoint")
    if not (_can_begin_late(backbone) and type(preprocessor) is StackedPreprocessor and weights):
        return
    loaded = CheckpointLoader.load_checkpoint(weights, map_location="cpu", logger="silent")
    backbone.load_state_dict(loaded.get("state_dict", loaded), strict=False)
    backbone.to(memory_format=torch.channels_last).train()
    size = config["train_dataloader"]["batch_size"]
    features = _compute(backbone, preprocessor, stream, size)
    if features is not None:
        made_by = fingerprint(backbone, preprocessor)
        _shared = _Shared(stream.dataset, features, size, made_by)


def _can_begin_late(backbone: nn.Module | None) -> bool:
    """Whether the backbone has a frozen first part, and no output is taken from inside it."""
    return (
        isinstance(backbone, PrefixResNet)
        and backbone.frozen_stages >= 1
        and min(backbone.out_indices) >= backbone.frozen_stages - 1
    )


def _only_the_backbone_sees_images(model: nn.Module) -> bool:
    """Whether a detector passes a batch of images to its backbone and reads nothing else of it."""
    for kind in (SingleStageDetector, TwoStageDetector):
        if isinstance(model, kind):
            names = ("loss", "extract_feat")
            return all(getattr(type(model), name) is getattr(kind, name) for name in names)
    return False


@torch.no_grad()
def _compute(
    backbone: PrefixResNet, preprocessor: StackedPreprocessor, stream: StreamDataset, size: int
) -> list[Features] | None:
    """The features of all images; ``None`` if they do not fit or do not stack.

    The last batch is filled with the first images: a batch of another size might use other kernels.
    """
    count = len(stream)
    store: Tensor | None = None  # [count, H, W, C]
    for start in range(0, count, size):
        packed = [stream.kept[number % count] for number in range(start, start + size)]
        images = [one["inputs"] for one in packed]
        if not preprocessor.is_plain(images, [one["data_samples"] for one in packed]):
            return None
        made = backbone.prefix(preprocessor.normalised(images)).permute(0, 2, 3, 1)
        if store is None:
            shape = tuple(images[0].shape[-2:])
            if count * made[0].nbytes > stream.prefix_room:
                return None
            store = made.new_empty(count, *made.shape[1:])
        here = min(size, count - start)
        store[start : start + here] = made[:here]
    return None if store is None else [Features(row, shape) for row in store]


def fingerprint(backbone: ResNet, preprocessor: StackedPreprocessor) -> str:
    """SHA-256 of all that an image's features depend on, other than the image."""
    frozen = ("conv1", "bn1", "stem", *backbone.res_layers[: backbone.frozen_stages])
    digest = hashlib.sha256()
    for name, value in [*backbone.state_dict().items(), *preprocessor.state_dict().items()]:
        if "." not in name or name.split(".")[0] in frozen:
            digest.update(name.encode())
            digest.update(value.contiguous().numpy().tobytes())
    for buffer in (preprocessor.mean, preprocessor.std):  # not in the state
        digest.update(buffer.numpy().tobytes())
    digest.update(json.dumps([preprocessor._channel_conversion, backbone.frozen_stages]).encode())
    return digest.hexdigest()


@HOOKS.register_module()
class SharedPrefixHook(Hook):
    """Let a trial train from the features that were computed for it before it was forked."""

    def before_train(self, runner: Runner) -> None:
        """Give the stream the features, if there are any and they are this trial's."""
        model, loader = bare_model(runner), runner.train_loop.dataloader
        stream, backbone = loader.dataset, getattr(model, "backbone", None)
        if (
            _shared is not None
            and get_world_size() == 1
            and isinstance(stream, StreamDataset)
            and stream.dataset is _shared.dataset
            and (loader.batch_size, loader.num_workers) == (_shared.batch_size, 0)
            and _can_begin_late(backbone)
            and _only_the_backbone_sees_images(model)
            and next(model.parameters()).device.type == "cpu"
            and type(model.data_preprocessor) is StackedPreprocessor
            and fingerprint(backbone, model.data_preprocessor) == _shared.made_by
        ):
            stream.take_features(_shared.features)
            runner.logger.info("the backbone's frozen part was computed before, for all trials")
