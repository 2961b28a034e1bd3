"""Two processes that reduce gradients: NCCL where there are two GPUs, else gloo."""

import argparse
import sys

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ablations.machine import free_port


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rehearse", action="store_true")
    parser.parse_args()
    nccl = torch.cuda.device_count() >= 2
    torch.multiprocessing.spawn(work, (free_port(), nccl), nprocs=2)
    print(f"Two processes reduced their gradients with {'NCCL' if nccl else 'gloo'}.")
    if not nccl:
        print("There are not two GPUs here: NCCL has not been tried.")
    return 0


def work(rank: int, port: int, nccl: bool) -> None:
    """Compare the reduced gradient with the mean of both processes' own."""
    device = torch.device("cuda", rank) if nccl else torch.device("cpu")
    if nccl:
        torch.cuda.set_device(rank)
    address = f"tcp://127.0.0.1:{port}"
    dist.init_process_group("nccl" if nccl else "gloo", address, rank=rank, world_size=2)
    inputs = [torch.randn(4, 8, generator=torch.Generator().manual_seed(r)) for r in range(2)]
    torch.manual_seed(0)
    model = nn.Linear(8, 3).to(device)
    expected = torch.zeros_like(model.weight)
    for each in inputs:
        expected += torch.autograd.grad(model(each.to(device)).square().sum(), model.weight)[0] / 2
    wrapped = DistributedDataParallel(model, device_ids=[rank] if nccl else None)
    wrapped(inputs[rank].to(device)).square().sum().backward()
    torch.testing.assert_close(model.weight.grad, expected)
    dist.destroy_process_group()


if __name__ == "__main__":
    sys.exit(main())
