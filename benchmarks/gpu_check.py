"""Prove the project on this machine's GPU in one command; no network, no data set.

    python -m benchmarks.gpu_check [--rehearse] [--out reports/benchmarks/gpu.md]

Each part runs in a process of its own with a time limit, nine minutes in all. One that fails says
so on the page and the next one runs. ``--rehearse`` runs every part small on the CPU, the kernel in
Triton's interpreter: it shows that the parts run, and measures nothing.
"""

import argparse
import datetime
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
SHOWN = 12  # lines of a failed part's errors


@dataclass(frozen=True)
class Part:
    """A module ``benchmarks.MODULE`` that prints its section of the page, and its time limit."""

    title: str
    module: str
    limit_s: int
    interpreted: bool = False  # its rehearsal needs Triton's interpreter


PARTS = (
    Part("The kernel against float64, and its speed", "gpu_kernel", 120, interpreted=True),
    Part("The COCO configs at 600 px", "gpu_training", 150),
    Part("Resume, bit for bit", "gpu_resume", 80),
    Part("Two processes", "gpu_processes", 40),
    Part("The embedded default sweep", "gpu_sweep", 150),
)


@dataclass(frozen=True)
class Outcome:
    """What a part printed, and why it failed."""

    part: Part
    text: str
    seconds: float
    problem: str | None = None


def main(arguments: list[str] | None = None) -> int:
    """Run the parts and write the page; exit status 1 if one of them failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rehearse", action="store_true", help="small and on the CPU")
    parser.add_argument("--out", type=Path, help="default: reports/benchmarks/gpu.md")
    options = parser.parse_args(arguments)
    out = options.out or ROOT / (
        "build/gpu-rehearsal.md" if options.rehearse else "reports/benchmarks/gpu.md"
    )
    if not options.rehearse and not (gpu := name_of_gpu()):
        print("torch sees no GPU here; --rehearse runs every part on the CPU", file=sys.stderr)
        return 2
    machine = "no GPU: a rehearsal on the CPU, which measures nothing"
    outcomes = []
    for part in PARTS:
        print(f"== {part.title}", flush=True)
        outcomes.append(run(part, options.rehearse))
        print(f"== {outcomes[-1].problem or 'passed'}, {outcomes[-1].seconds:.0f} s", flush=True)
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(page(outcomes, machine if options.rehearse else gpu))
    print(f"== written: {out}")
    return int(any(outcome.problem for outcome in outcomes))


def run(part: Part, rehearse: bool) -> Outcome:
    """One part in a process of its own."""
    command = [sys.executable, "-m", f"benchmarks.{part.module}"]
    env: Mapping[str, str] = {**os.environ, "PYTHONPATH": str(ROOT)}
    if rehearse:
        command.append("--rehearse")
        env = {**env, "CUDA_VISIBLE_DEVICES": ""}
        if part.interpreted:
            env = {**env, "TRITON_INTERPRET": "1"}
    began = time.monotonic()
    limit = 10 * part.limit_s if rehearse else part.limit_s
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=limit, check=False
        )
    except subprocess.TimeoutExpired as error:
        text = error.stdout.decode() if isinstance(error.stdout, bytes) else ""
        return Outcome(part, text, limit, f"not finished after {limit} s")
    seconds = time.monotonic() - began
    if done.returncode:
        lines = (done.stderr.strip() or "no message").splitlines()[-SHOWN:]
        problem = f"failed: {lines[-1]}"
        return Outcome(part, done.stdout + "\n" + fenced(lines), seconds, problem)
    return Outcome(part, done.stdout, seconds)


def fenced(lines: list[str]) -> str:
    """Lines as a block of the page."""
    return "\n".join(["```text", *lines, "```"])


def name_of_gpu() -> str | None:
    """The GPU's name by torch, or ``None``; asked in another process, so that CUDA stays free."""
    code = "import torch; print(torch.cuda.get_device_name() if torch.cuda.is_available() else '')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    return done.stdout.strip() or None


def page(outcomes: list[Outcome], machine: str) -> str:
    """The page, with a table of what passed first."""
    failed = [outcome for outcome in outcomes if outcome.problem]
    lines = [
        "# On a GPU",
        "",
        f"`make gpu-check`, {datetime.date.today().isoformat()}, {machine}. {len(failed)} of "
        f"{len(outcomes)} parts failed.",
        "",
        "| part | | seconds |",
        "|---|---|---:|",
    ]
    for outcome in outcomes:
        state = "**failed**" if outcome.problem else "passed"
        lines.append(f"| {outcome.part.title} | {state} | {outcome.seconds:.0f} |")
    for outcome in outcomes:
        lines += ["", f"## {outcome.part.title}", ""]
        lines += [f"**{outcome.problem}**", ""] if outcome.problem else []
        lines.append(outcome.text.strip())
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
