"""Limits for the cost of the losses, measured by the benchmark's functions."""

import pytest
import torch

from benchmarks import bench_losses


@pytest.fixture
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("path", ["ours", "eager"])
def test_extra_memory_is_little_more_than_the_gradient(path):
    logits, *rest = bench_losses.make_input(20_000, 80, "cpu")
    peak = bench_losses.peak_memory(getattr(bench_losses, path), (logits, *rest), "cpu")
    assert peak <= 1.3 * logits.numel() * logits.element_size()


@pytest.mark.usefixtures("one_thread")
@pytest.mark.slow  # seconds, and a busy machine makes it unfair
@pytest.mark.parametrize(("path", "least"), [("ours", 5.0), ("eager", 2.0)])
def test_times_mmdets_throughput(path, least):
    losses = {path: getattr(bench_losses, path), "mmdet": bench_losses.mmdet_loss()}
    ours, mmdet = bench_losses.measure(losses, 100_000, 80, "cpu", turns=5)
    assert mmdet.seconds / ours.seconds >= least
