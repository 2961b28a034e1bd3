"""The order of a trial's images, and the random numbers of its augmentation.

Both depend only on the seed and the position in the stream, not on the number of loader workers or
processes or on earlier draws. So all points of one seed get the same images in the same order with
the same flips, and a resumed trial continues where it stopped.
"""

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from mmengine.dataset import BaseDataset
from mmengine.dist import get_dist_info
from mmengine.registry import DATA_SAMPLERS, DATASETS, LOOPS
from mmengine.runner import IterBasedTrainLoop
from torch.utils.data import Dataset, Sampler

from ablations.machine import cpu_cores, memory_bytes
from ablations.training.layout import Features

DETERMINISTIC = {"LoadImageFromFile", "LoadAnnotations", "Resize", "PackDetInputs"}
"""Transforms that use no random numbers."""

MEMORY_SHARE = 16  # of the memory, this part is for the packed images of all trials together

_shared: dict[str, tuple[BaseDataset, dict[int, dict[str, Any]]]] = {}
"""By config: a data set and its packed images, loaded before this process was forked."""


class StreamIndex(int):
    """An image's index in the data set, with its position in the stream."""

    position: int

    def __new__(cls, index: int, position: int) -> "StreamIndex":
        self = super().__new__(cls, index)
        self.position = position
        return self

    def __getnewargs__(self) -> tuple[int, int]:  # type: ignore[override] # for loader workers
        return int(self), self.position


@DATA_SAMPLERS.register_module()
class StreamSampler(Sampler):
    """Endless epochs: each has every image once, in an order of its own. Starts at any position.

    Of each batch of the whole run, process r of R takes the positions r, r + R, ... so the union
    over processes is the batch that one process would see.

    Args:
        dataset: anything with a length.
        seed: of the order; mmengine passes the trial's.
        start: first position of the stream, in images over all processes.
    """

    def __init__(self, dataset: Dataset, seed: int | None = None, start: int = 0) -> None:
        self.rank, self.world_size = get_dist_info()
        self.size = len(dataset)  # type: ignore[arg-type]
        self.seed = 0 if seed is None else seed
        self.start = start

    def __iter__(self) -> Iterator[StreamIndex]:
        epoch, order = -1, np.empty(0, np.int64)
        position = self.start + self.rank
        while True:
            if position // self.size != epoch:
                epoch = position // self.size
                order = np.random.default_rng([self.seed, epoch]).permutation(self.size)
            yield StreamIndex(int(order[position % self.size]), position)
            position += self.world_size

    def __len__(self) -> int:
        return self.size


@DATASETS.register_module()
class StreamDataset:
    """Wraps a data set so that an image's augmentation depends on its position in the stream.

    Where the pipeline draws nothing, an image is loaded and packed once and then kept, up to a
    limit of memory.

    Args:
        dataset: config of the data set, or the data set.
        seed: of the draws; the trial's (``plan`` sets it).
        limit_mb: how many megabytes of packed images to keep, 0 keeps none. By default a process
            may keep its share of a sixteenth of the memory, with a trial on each of the cores.
        prefix_mb: how many megabytes of features of the backbone's frozen part may be shared by the
            trials of a sweep (``prefix``), 0 shares none. By default a sixteenth of the memory.
    """

    def __init__(
        self,
        dataset: dict[str, Any] | BaseDataset,
        seed: int = 0,
        limit_mb: int | None = None,
        prefix_mb: int | None = None,
    ) -> None:
        self._kept: dict[int, dict[str, Any]] = {}
        self._features: Sequence[Features] | None = None
        if isinstance(dataset, dict):
            dataset, self._kept = _shared.get(_key(dataset)) or (DATASETS.build(dataset), {})
        self.dataset = dataset
        self.seed = seed
        transforms = {type(step).__name__ for step in self.dataset.pipeline.transforms}
        self._fixed = transforms <= DETERMINISTIC
        kept = sum(packed["inputs"].nbytes for packed in self._kept.values())
        limit = (
            memory_bytes() // MEMORY_SHARE // cpu_cores() if limit_mb is None else limit_mb * 2**20
        )
        self._room = limit - kept  # bytes
        self.prefix_room = (
            memory_bytes() // MEMORY_SHARE if prefix_mb is None else prefix_mb * 2**20
        )

    @property
    def metainfo(self) -> dict[str, Any]:
        return self.dataset.metainfo

    @property
    def kept(self) -> Mapping[int, dict[str, Any]]:
        """The packed images in memory, by index."""
        return self._kept

    def take_features(self, features: Sequence[Features]) -> None:
        """Return these in place of the images; all images must be kept."""
        self._features = features

    def full_init(self) -> None:
        self.dataset.full_init()

    def get_data_info(self, index: int) -> dict[str, Any]:
        return self.dataset.get_data_info(index)

    def get_cat_ids(self, index: int) -> list[int]:
        return self.dataset.get_cat_ids(index)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict[str, Any]:
        kept = self._kept.get(int(index))
        if kept is not None and self._features is not None:
            return kept | {"inputs": self._features[int(index)]}
        if kept is not None:
            return dict(kept)
        if not self._fixed:
            self._seed_draws(getattr(index, "position", index))
        packed = self.dataset[int(index)]
        if self._fixed and (size := packed["inputs"].nbytes) <= self._room:
            self._room -= size
            self._kept[int(index)] = packed
            return dict(packed)
        return packed

    def _seed_draws(self, position: int) -> None:
        draw = np.random.SeedSequence([self.seed, position]).generate_state(1)[0]
        np.random.seed(draw)
        random.seed(int(draw))
        torch.default_generator.manual_seed(int(draw))


def share(config: dict[str, Any]) -> StreamDataset:
    """Load the data of a ``StreamDataset``'s config for all processes that this one will fork.

    That is the annotations, and the packed images if they are kept and all fit into the memory.
    """
    options = {name: value for name, value in config.items() if name != "type"}
    if options.get("limit_mb") is None:  # kept once for all processes
        options["limit_mb"] = memory_bytes() // MEMORY_SHARE // 2**20
    stream = StreamDataset(**options)
    if stream._fixed and len(stream) * stream.dataset[0]["inputs"].nbytes <= stream._room:
        for index in range(len(stream)):
            stream[index]
    _shared[_key(config["dataset"])] = stream.dataset, stream._kept
    return stream


def _key(config: dict[str, Any]) -> str:
    return json.dumps(config, sort_keys=True, default=str)


@LOOPS.register_module()
class StreamTrainLoop(IterBasedTrainLoop):
    """mmengine's iteration loop, which resumes without reading the past batches again.

    A validation belongs to the iteration that has just ended: a trial that was stopped during one
    repeats it when it resumes.
    """

    def run(self) -> torch.nn.Module:
        """Train from the current iteration to the last; validate at each ``val_interval``."""
        self.runner.call_hook("before_train")
        self.runner.call_hook("before_train_epoch")
        sampler = self.dataloader.sampler
        if isinstance(sampler, StreamSampler):
            sampler.start = self._iter * self.dataloader.batch_size * sampler.world_size
        batches = iter(self.dataloader)
        self.runner.model.train()  # always: mmdet's backbones freeze their stages in train()
        while True:
            self._decide_current_val_interval()
            last = self._iter >= self._max_iters
            due = self._iter >= self.val_begin and self._iter % self.val_interval == 0
            if self.runner.val_loop is not None and (last or (due and self._iter > 0)):
                self.runner.val_loop.run()
            if last or self.stop_training:
                break
            if not self.runner.model.training:  # after a validation
                self.runner.model.train()
            self.run_iter(next(batches))
        self.runner.call_hook("after_train_epoch")
        self.runner.call_hook("after_train")
        return self.runner.model
