"""The sample of windows for the loss CDFs is uniform over all images, and bounded."""

import multiprocessing
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ablations.store.logit_histogram import LOGIT_BINS, LOGIT_LIMIT
from ablations.training.probabilities import WindowSample

IMAGES = 50
WINDOWS = 40  # positives of an image


def logit_of(image: int) -> float:
    """Logits that identify an image's windows."""
    return image - IMAGES / 2


def by_image(counts: NDArray[np.int64]) -> list[int]:
    """How many of the counted windows are of each image."""
    scale = LOGIT_BINS / (2 * LOGIT_LIMIT)
    return [int(counts[int((logit_of(image) + LOGIT_LIMIT) * scale)]) for image in range(IMAGES)]


def sample(positives: int, images: range = range(IMAGES), seed: int = 0) -> WindowSample:
    found = WindowSample(positives, negatives=10 * IMAGES, images=IMAGES, seed=seed)
    for image in images:
        windows = np.full(WINDOWS, logit_of(image), np.float32)
        few_in_the_first = windows[:3] if image == 0 else windows
        found.add_image(windows, few_in_the_first)
    return found


def test_every_image_gives_positives_though_there_are_more_than_wanted() -> None:
    found = sample(positives=500).gather()
    given = by_image(found["positive"])
    assert sum(given) == found["positive"].sum() == 500
    assert found["positive_total"] == IMAGES * WINDOWS
    # Hypergeometric, 10 on average: one that strays from 1 to 22 has a chance below 1e-4.
    assert min(given) >= 1
    assert max(given) <= 22
    assert by_image(sample(500).gather()["positive"]) == given
    assert by_image(sample(500, seed=1).gather()["positive"]) != given


def test_all_positives_count_while_they_are_fewer_than_wanted() -> None:
    assert by_image(sample(positives=IMAGES * WINDOWS).gather()["positive"]) == [WINDOWS] * IMAGES


def test_an_image_gives_its_share_of_negatives_or_all_it_has() -> None:
    found = sample(positives=1).gather()
    assert by_image(found["negative"]) == [3] + [10] * (IMAGES - 1)
    assert found["negative_total"] == 3 + WINDOWS * (IMAGES - 1)


def _one_of_two(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    torch.distributed.init_process_group("gloo", store, rank=rank, world_size=2)
    images = (range(10), range(10, IMAGES))[rank]
    np.savez(folder / f"{rank}.npz", **sample(500, images).gather())


def test_two_processes_keep_the_bound_together(tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=_one_of_two, args=(rank, tmp_path)) for rank in (0, 1)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    with np.load(tmp_path / "0.npz") as found:
        given = by_image(found["positive"])
        assert sum(given) == 500
        assert found["positive_total"] == IMAGES * WINDOWS
        # A process with a fifth of the windows gives a fifth of the sample.
        assert 65 <= sum(given[:10]) <= 135
