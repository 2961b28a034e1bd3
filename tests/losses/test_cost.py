"""What the losses may cost: measured by the benchmark's own functions."""

import importlib.util
from pathlib import Path

import pytest
import torch

BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "bench_losses.py"


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("bench_losses", BENCHMARK)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("path", ["ours", "eager"])
def test_extra_memory_is_little_more_than_the_gradient(benchmark, path):
    logits, *rest = benchmark.make_input(20_000, 80, "cpu")
    peak = benchmark.peak_memory(getattr(benchmark, path), (logits, *rest), "cpu")
    assert peak <= 1.3 * logits.numel() * logits.element_size()


@pytest.mark.usefixtures("one_thread")
@pytest.mark.slow  # seconds, and a busy machine makes it unfair
@pytest.mark.parametrize(("path", "least"), [("ours", 5.0), ("eager", 2.0)])
def test_times_mmdets_throughput(benchmark, path, least):
    losses = {path: getattr(benchmark, path), "mmdet": benchmark.mmdet_loss()}
    ours, mmdet = benchmark.measure(losses, 100_000, 80, "cpu", turns=5)
    assert mmdet.seconds / ours.seconds >= least
