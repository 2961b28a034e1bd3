"""Whether an interrupted trial gives the same weights on this device, bit for bit or how far."""

import argparse
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from ablations.store.files import read_json

GRID = """title = "one point"
blocks = [dict(points=[dict(gamma=2.0)], set={"model.bbox_head.loss_cls.gamma": "$gamma"})]
"""
ROOT = Path(__file__).parents[1]


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rehearse", action="store_true")
    parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "one.py").write_text(GRID)
        if sweep(folder, "whole").wait():
            print("the trial that was not interrupted did not finish", file=sys.stderr)
            return 1
        stopped = interrupt(sweep(folder, "stopped"), folder / "stopped")
        if sweep(folder, "stopped").wait():
            print("the interrupted trial did not finish", file=sys.stderr)
            return 1
        pair = [torch.load(w, weights_only=True, map_location="cpu") for w in weights(folder)]
    first, second = (each.get("state_dict", each) for each in pair)
    far = max((first[k].double() - second[k].double()).abs().max().item() for k in first)
    print(f"Stopped at iteration {stopped} of 30 and resumed: ", end="")
    print(
        "the weights are the same to the bit." if far == 0 else f"**weights differ by {far:.1e}.**"
    )
    return int(far > 1e-3 or stopped == 0)


def sweep(folder: Path, name: str) -> subprocess.Popen[bytes]:
    """A sweep of one trial of 30 iterations."""
    command = [sys.executable, "runners/sweep.py", "--grid", folder / "one.py", "--smoke"]
    command += ["--work-dir", folder / name, "--no-report", "--wandb", "disabled"]
    return subprocess.Popen(list(map(str, command)), cwd=ROOT, stdout=subprocess.DEVNULL)


def interrupt(process: "subprocess.Popen[bytes]", work_dir: Path) -> int:
    """Stop the sweep when its trial trains; returns the iteration that it reached."""
    reached = 0
    while process.poll() is None:
        for path in work_dir.glob("trials/*/status.json"):
            reached = int((read_json(path) or {}).get("iteration") or 0)
        if reached:
            process.send_signal(signal.SIGTERM)
            process.wait()
        time.sleep(0.02)
    return reached


def weights(folder: Path) -> list[Path]:
    """The final weights of both trials."""
    return [next((folder / n).glob("trials/*/weights.pth")) for n in ("whole", "stopped")]


if __name__ == "__main__":
    sys.exit(main())
