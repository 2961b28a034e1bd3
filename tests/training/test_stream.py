"""The images of a trial depend only on the seed and the position."""

import itertools
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
import torch

import ablations.training.stream as stream
from ablations.training.stream import (
    StreamDataset,
    StreamIndex,
    StreamSampler,
    StreamTrainLoop,
    share,
)
from tests.helpers.coco_sets import write_coco_set


class Images:
    """A data set whose every item is drawn at random."""

    metainfo = None

    class pipeline:  # noqa: N801
        transforms = (object(),)

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> tuple[int, float]:
        return index, float(np.random.rand())


def take(sampler: StreamSampler, count: int) -> list[StreamIndex]:
    return list(itertools.islice(sampler, count))


def test_every_epoch_is_a_permutation_of_its_own() -> None:
    first, second = np.array(take(StreamSampler(Images(), seed=3), 20)).reshape(2, 10)
    assert sorted(first) == sorted(second) == list(range(10))
    assert list(first) != list(second)
    assert list(first) != take(StreamSampler(Images(), seed=4), 10)


def test_a_stream_goes_on_from_any_position() -> None:
    whole = take(StreamSampler(Images(), seed=3), 40)
    later = take(StreamSampler(Images(), seed=3, start=17), 23)
    assert whole[17:] == later
    assert [index.position for index in later] == list(range(17, 40))


def test_two_processes_share_out_the_stream_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = take(StreamSampler(Images(), seed=3), 16)
    parts = []
    for rank in range(2):
        monkeypatch.setattr(stream, "get_dist_info", lambda rank=rank: (rank, 2))
        parts.append(take(StreamSampler(Images(), seed=3), 8))
    assert [item for pair in zip(*parts, strict=True) for item in pair] == whole


def test_draws_follow_the_position_whatever_was_drawn_before() -> None:
    data = StreamDataset(Images(), seed=5)
    wanted = data[StreamIndex(2, 7)]
    np.random.rand(100)
    assert data[StreamIndex(2, 7)] == wanted
    assert data[StreamIndex(2, 17)] != wanted  # the same image an epoch later
    assert StreamDataset(Images(), seed=6)[StreamIndex(2, 7)] != wanted
    assert data[pickle.loads(pickle.dumps(StreamIndex(2, 7)))] == wanted  # through a worker


def stream_config(root: Path, **options: Any) -> dict[str, Any]:
    """A stream of six images whose pipeline draws nothing."""
    dataset = dict(
        type="CocoDataset",
        data_root=str(write_coco_set(root, ["a"])),
        ann_file="annotations/train.json",
        data_prefix=dict(img="train/"),
        metainfo=dict(classes=("a",)),
        pipeline=[
            dict(type="LoadImageFromFile"),
            dict(type="LoadAnnotations", with_bbox=True),
            dict(type="PackDetInputs"),
        ],
    )
    return dict(type="StreamDataset", dataset=dataset, **options)


def found(config: dict[str, Any], seed: int) -> StreamDataset:
    """The data set that a trial of that seed builds."""
    return StreamDataset(dict(config["dataset"]), seed)


def test_shared_data_is_found_and_the_same(scope, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(stream, "_shared", {})
    config = stream_config(tmp_path / "data", limit_mb=1)
    own = found(config, seed=1)
    share(config)
    shared, again = found(config, seed=1), found(config, seed=2)
    assert shared.dataset is again.dataset is not own.dataset
    assert len(shared._kept) == len(own) == 6
    for index in range(6):
        assert shared[index]["inputs"] is again[index]["inputs"]
        assert shared[index]["inputs"].equal(own[index]["inputs"])
        boxes = [data[index]["data_samples"].gt_instances.bboxes.tensor for data in (shared, own)]
        assert boxes[0].equal(boxes[1])
    config["dataset"]["indices"] = 3  # another data set
    assert found(config, seed=1).dataset is not shared.dataset


def test_images_that_do_not_all_fit_are_not_loaded_ahead(
    scope, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(stream, "_shared", {})
    config = stream_config(tmp_path / "data", limit_mb=0)
    share(config)
    assert not found(config, seed=1)._kept
    assert found(config, seed=1).dataset is found(config, seed=2).dataset  # the annotations are


def test_no_more_images_are_kept_than_the_limit_allows(scope, tmp_path: Path, monkeypatch) -> None:
    config = stream_config(tmp_path / "data")
    monkeypatch.setattr(stream, "cpu_cores", lambda: 4)
    monkeypatch.setattr(
        stream, "memory_bytes", lambda: 16 * 4 * 3 * 3 * 96 * 64
    )  # three for each core
    data = found(config, seed=1)
    first = [data[index]["inputs"] for index in range(6)]
    assert sorted(data._kept) == [0, 1, 2]
    assert all(data[index]["inputs"].equal(image) for index, image in enumerate(first))


def test_the_model_is_put_into_training_at_first_and_after_every_validation() -> None:
    """mmdet's backbones freeze their stages and norms in train(), not when they are built."""
    told: list[str] = []

    class Model(torch.nn.Module):
        def train(self, mode: bool = True) -> "Model":
            told.append("train" if mode else "validation")
            return super().train(mode)

    class Loop(StreamTrainLoop):
        def run_iter(self, batch: Any) -> None:
            told.append("iteration")
            self._iter += 1

    class Loader(list):
        sampler = None
        dataset = SimpleNamespace(metainfo={})

    model = Model()
    runner = SimpleNamespace(
        model=model,
        val_loop=SimpleNamespace(run=model.eval),
        visualizer=SimpleNamespace(),
        call_hook=lambda name: None,
    )
    Loop(runner, Loader(range(4)), max_iters=4, val_interval=2).run()
    half = ["train", "iteration", "iteration", "validation"]
    assert told == half * 2
