"""The embedded default sweep on this device, as far as it gets in the time."""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ablations.store.states import sweep_states
from benchmarks.gpu_resume import GRID

ROOT = Path(__file__).parents[1]
LIMIT_S = 130


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rehearse", action="store_true")
    rehearse = parser.parse_args().rehearse
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        grid = "gamma_alpha"
        if rehearse:
            (folder / "one.py").write_text(GRID)
            grid = str(folder / "one.py")
        command = [sys.executable, "runners/sweep.py", "--grid", grid, "--no-report"]
        command += ["--work-dir", str(folder / "sweep"), "--wandb", "disabled"]
        command += ["--smoke"] if rehearse else []
        began = time.monotonic()
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
        try:
            process.wait(1200 if rehearse else LIMIT_S)
        except subprocess.TimeoutExpired:
            process.terminate()
            process.wait(90)
        seconds = time.monotonic() - began
        states = sweep_states(folder / "sweep")[1]
    records = [state.record for state in states if state.record is not None]
    failed = [record for record in records if record.status == "failed"]
    finished = [record for record in records if record.status == "finished"]
    print(f"{len(finished)} of {len(states)} trials finished in {seconds:.0f} s.\n")
    print("| trial | AP | seconds | ms an iteration | device |\n|---|---:|---:|---:|---|")
    for record in finished:
        timings = record.timings
        print(
            f"| {record.label} | {record.metrics['AP'] or 0:.1f} | {timings['wall_s']:.0f} | "
            f"{1e3 * timings['iteration_s']:.1f} | {record.device} |"
        )
    for record in failed:
        print(f"{record.label}: {record.reason}", file=sys.stderr)
    return int(bool(failed) or not finished)


if __name__ == "__main__":
    sys.exit(main())
