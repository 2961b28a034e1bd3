"""Time the focal loss beside mmdet's and torchvision's.

    python -m benchmarks.bench_losses [--out reports/benchmarks/losses.md] [--threads 1]

Forward plus backward, RetinaNet's defaults (gamma 2, alpha 0.25, mean over the positives), on the
CPU and, where there is one, on the GPU. Contenders take turns, so that a busy machine slows all of
them; each one's fastest turn counts, in processor time where one thread does the work. Extra memory
is the peak of what a call allocates through torch, the gradient included, over the size of the
logits.
"""

from __future__ import annotations

import argparse
import datetime
import platform
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import NamedTuple
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor

from ablations.losses import functional, native

SIZES = ((100_000, 80), (20_000, 10))
POSITIVES_IN = 1000  # one anchor in so many is positive
MMDET = "mmdet FocalLoss"
Loss = Callable[[Tensor, Tensor, Tensor, float], Tensor]


class Result(NamedTuple):
    name: str
    seconds: float
    extra_memory: float  # in sizes of the logits


def ours(logits: Tensor, target: Tensor, weight: Tensor, positives: float) -> Tensor:
    return functional.focal_loss(logits, target, weight, avg_factor=positives)


def plain(logits: Tensor, target: Tensor, weight: Tensor, positives: float) -> Tensor:
    """The formula as one writes it down."""
    y = F.one_hot(target, logits.shape[1] + 1)[:, :-1].to(logits)
    p = logits.sigmoid()
    p_t = p * y + (1 - p) * (1 - y)
    alpha_t = 0.25 * y + 0.75 * (1 - y)
    cross_entropy = F.binary_cross_entropy_with_logits(logits, y, reduction="none")
    return (alpha_t * (1 - p_t) ** 2 * cross_entropy * weight[:, None]).sum() / positives


def mmdet_loss() -> Loss:
    from mmdet.models.losses import FocalLoss

    module = FocalLoss()
    return lambda logits, target, weight, positives: module(
        logits, target, weight, avg_factor=positives
    )


def torchvision_loss() -> Loss:
    sigmoid_focal_loss = import_torchvision().ops.sigmoid_focal_loss

    def loss(logits: Tensor, target: Tensor, weight: Tensor, positives: float) -> Tensor:
        y = F.one_hot(target, logits.shape[1] + 1)[:, :-1].to(logits)
        return (sigmoid_focal_loss(logits, y) * weight[:, None]).sum() / positives

    return loss


def import_torchvision() -> ModuleType:
    """torchvision, also where its compiled operators do not fit the installed torch."""
    try:
        import torchvision
    except RuntimeError:
        for name in [name for name in sys.modules if name.startswith("torchvision")]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        import torchvision

        torchvision.declared_operators = library  # they live as long as this
    return torchvision


@contextmanager
def without_native() -> Iterator[None]:
    with mock.patch.object(native, "library", lambda: None):
        yield


def eager(*arguments: Tensor) -> Tensor:
    with without_native():
        return ours(*arguments)


def contenders(device: str) -> dict[str, Loss]:
    losses: dict[str, Loss] = {"ours": ours}
    if device == "cpu" and native.library() is not None:
        losses["ours, without a C compiler"] = eager
    losses["torch.compile of the formula"] = torch.compile(plain, dynamic=False)
    losses["torchvision sigmoid_focal_loss"] = torchvision_loss()
    losses[MMDET if device == "cpu" else "mmdet FocalLoss (mmcv's operator)"] = mmdet_loss()
    losses["the formula, eager"] = plain
    return losses


def make_input(count: int, classes: int, device: str) -> tuple[Tensor, Tensor, Tensor, float]:
    """Logits like those of a RetinaNet in training: few positives, a few ignored anchors."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(count, classes, generator=generator) * 1.5 - 4
    target = torch.full((count,), classes)
    target[::POSITIVES_IN] = torch.arange(len(target[::POSITIVES_IN])) % classes
    weight = torch.ones(count)
    weight[1::50] = 0
    positives = float((target < classes).sum())
    return logits.to(device).requires_grad_(), target.to(device), weight.to(device), positives


def step(loss: Loss, arguments: tuple[Tensor, Tensor, Tensor, float]) -> None:
    arguments[0].grad = None
    loss(*arguments).backward()


def measure(
    losses: dict[str, Loss], count: int, classes: int, device: str, turns: int
) -> list[Result]:
    """One Result a contender."""
    arguments = make_input(count, classes, device)
    alone = device == "cpu" and torch.get_num_threads() == 1
    clock = time.thread_time if alone else time.perf_counter  # the first does not count waiting
    seconds: dict[str, list[float]] = {name: [] for name in losses}
    for turn in range(turns + 2):
        for name, loss in losses.items():
            start = clock()
            step(loss, arguments)
            if device != "cpu":
                torch.cuda.synchronize()
            if turn >= 2:  # the first turns warm up
                seconds[name].append(clock() - start)
    size = arguments[0].numel() * arguments[0].element_size()
    return [
        Result(name, min(seconds[name]), peak_memory(loss, arguments, device) / size)
        for name, loss in losses.items()
    ]


def peak_memory(loss: Loss, arguments: tuple[Tensor, Tensor, Tensor, float], device: str) -> int:
    """Bytes that a forward and backward pass hold at once, beyond their input."""
    arguments[0].grad = None
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step(loss, arguments)
        return torch.cuda.max_memory_allocated() - before
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        step(loss, arguments)
    # Allocations (positive) and releases (negative); the public summary only has sums an operator.
    recorded = profile.profiler.kineto_results.events()
    allocations = [event for event in recorded if event.name() == "[memory]"]
    held = peak = 0
    for event in sorted(allocations, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


def table(results: list[Result]) -> list[str]:
    """Markdown rows, the ratios first."""
    baseline = next(result for result in results if result.name.startswith("mmdet")).seconds
    lines = [
        "| times mmdet's throughput | extra memory / logits | ms | |",
        "| ---: | ---: | ---: | --- |",
    ]
    lines += [
        f"| {baseline / result.seconds:.1f} | {result.extra_memory:.2f} "
        f"| {result.seconds * 1e3:.2f} | {result.name} |"
        for result in results
    ]
    return lines


def copy_bandwidth(device: str) -> float:
    """Bytes a second of one large copy, read and write counted."""
    source = torch.empty(2**28 if device != "cpu" else 2**23, device=device)
    target = torch.empty_like(source)
    seconds = []
    for _ in range(10):
        start = time.perf_counter()
        target.copy_(source)
        if device != "cpu":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return 2 * source.numel() * 4 / min(seconds)


def describe(device: str) -> str:
    if device != "cpu":
        return torch.cuda.get_device_name()
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()


def report(threads: int, turns: int) -> str:
    """The whole page."""
    torch.set_num_threads(threads)
    lines = [
        "# Focal loss: speed and memory",
        "",
        "Forward plus backward, gamma 2, alpha 0.25, float32. The fastest of "
        f"{turns} turns; processor time where one CPU thread does the work.",
        "Written by `make bench-losses`.",
        "",
        f"- Date: {datetime.date.today().isoformat()}",
        f"- torch {torch.__version__}, {threads} CPU thread{'s' if threads > 1 else ''}",
    ]
    devices = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])
    for device in devices:
        losses = contenders(device)
        lines += ["", f"## {describe(device)}"]
        for count, classes in SIZES:
            results = measure(losses, count, classes, device, turns)
            lines += ["", f"{count:,} anchors x {classes} classes:", "", *table(results)]
            if device != "cpu":
                moved = 2 * count * classes * 4 / results[0].seconds
                share = moved / copy_bandwidth(device)
                lines += [
                    "",
                    f"Ours moves its one read and one write at {share:.0%} of a copy's speed.",
                ]
    if len(devices) == 1:
        lines += ["", "There was no GPU: the Triton kernel has not been timed."]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("reports/benchmarks/losses.md"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--turns", type=int, default=30)
    options = parser.parse_args()
    page = report(options.threads, options.turns)
    print(page)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(page)


if __name__ == "__main__":
    main()
