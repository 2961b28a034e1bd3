"""The Triton kernel on a GPU: value and gradient against float64, bandwidth, throughput."""

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import torch
from torch import Tensor

from ablations.losses import functional, fused
from benchmarks.bench_losses import (
    MMDET,
    contenders,
    copy_bandwidth,
    measure,
    mmdet_loss,
    ours,
    torchvision_loss,
)

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
GAMMAS = (0.0, 0.5, 1.0, 2.0, 3.3, 5.0)
SIZES = ((1, 1), (7, 3), (1237, 80), (20_000, 91))  # anchors x classes
SMALL = ((1, 1), (7, 3), (21, 11))
BANDWIDTH, THROUGHPUT = 0.8, 4.0  # targets: share of a copy's, times mmcv's operator
TIMED = (100_000, 80)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rehearse", action="store_true")
    rehearse = parser.parse_args().rehearse
    device = "cpu" if rehearse else "cuda"
    if not fused.has_triton():
        print("triton is not installed: the kernel has not been tried")
        return 1
    wrong = 0
    print("Largest relative error in norm over gammas, sizes, ignored anchors and none:\n")
    print("| | value | gradient | allowed |\n|---|---:|---:|---:|")
    for dtype in DTYPES:
        value, gradient = worst(dtype, SMALL if rehearse else SIZES, device, rehearse)
        allowed = max(2e-6, 2 * torch.finfo(dtype).eps)
        wrong += not (value <= allowed and gradient <= allowed)  # NaN is wrong too
        print(f"| {dtype} | {value:.1e} | {gradient:.1e} | {allowed:.1e} |")
    speed(device)
    return int(wrong > 0)


def worst(
    dtype: torch.dtype, sizes: tuple[tuple[int, int], ...], device: str, rehearse: bool
) -> tuple[float, float]:
    """The largest relative error of value and gradient; NaN where one is not finite."""
    values, gradients = [], []
    for count, classes in sizes:
        generator = torch.Generator().manual_seed(count)
        logits = (4 * torch.randn(count, classes, generator=generator) - 2).to(dtype)
        target = torch.randint(classes + 1, (count,), generator=generator)
        ignoring = (torch.rand(count, generator=generator) > 0.2).float()
        for gamma in GAMMAS:
            for weight in (None, ignoring):
                exact, exact_gradient = both(logits.double(), target, weight, gamma, "cpu")
                with as_on_cuda(rehearse):
                    found, gradient = both(logits, target, weight, gamma, device)
                values.append(relative(found, exact))
                gradients.append(relative(gradient, exact_gradient))
    return torch.tensor(values).max().item(), torch.tensor(gradients).max().item()


def both(
    logits: Tensor, target: Tensor, weight: Tensor | None, gamma: float, device: str
) -> tuple[Tensor, Tensor]:
    """Value and gradient of the focal loss, as float64 on the CPU."""
    here = logits.detach().to(device).requires_grad_()
    there = None if weight is None else weight.to(device)
    value = functional.focal_loss(here, target.to(device), there, gamma=gamma, avg_factor=3.0)
    (gradient,) = torch.autograd.grad(value, here)
    return value.detach().cpu().double(), gradient.cpu().double()


def relative(found: Tensor, exact: Tensor) -> float:
    """Relative error in norm; where the exact value is zero, the absolute one."""
    return ((found - exact).norm() / exact.norm().clamp(min=1e-12)).item()


@contextmanager
def as_on_cuda(rehearse: bool) -> Iterator[None]:
    """In a rehearsal, CPU tensors take the route of CUDA's, through Triton's interpreter."""
    if not rehearse:
        yield
        return
    from ablations.losses import triton_kernel

    with (
        mock.patch.object(fused, "is_dense", lambda _: True),
        mock.patch.object(fused, "fits_triton", lambda *_: True),
        mock.patch.object(triton_kernel, "BLOCK", 64),
    ):
        yield


def speed(device: str) -> None:
    """Print the share of a copy's bandwidth, and the times of the rivals."""
    count, classes = TIMED if device == "cuda" else (200, 10)
    losses = contenders(device) if device == "cuda" else {"ours": ours, MMDET: mmdet_loss()}
    if device == "cpu":
        losses["torchvision sigmoid_focal_loss"] = torchvision_loss()
    results = measure(losses, count, classes, device, 30 if device == "cuda" else 2)
    mine = results[0].seconds
    mmdets = next(result.seconds for result in results if result.name.startswith("mmdet"))
    moved = 2 * count * classes * 4 / mine
    share = moved / copy_bandwidth(device)
    print(f"\n{count:,} anchors x {classes} classes, float32, forward and backward:\n")
    print("| | ms | our throughput is |\n|---|---:|---:|")
    for result in results:
        print(f"| {result.name} | {1e3 * result.seconds:.3f} | {result.seconds / mine:.1f} times |")
    print(
        f"\nOne read and one write of the logits at {share:.0%} of a copy's bandwidth "
        f"({met(share >= BANDWIDTH)} {BANDWIDTH:.0%}); {mmdets / mine:.1f} times the throughput of "
        f"mmdet's loss ({met(mmdets / mine >= THROUGHPUT)} {THROUGHPUT:.0f} times)."
    )


def met(reached: bool) -> str:
    return "target met:" if reached else "**target missed:**"


if __name__ == "__main__":
    sys.exit(main())
