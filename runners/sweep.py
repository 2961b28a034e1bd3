"""Train a detector over a grid of losses and write the report.

    python runners/sweep.py --grid gamma_alpha

The same command again continues: finished trials are skipped, interrupted ones go on from their
checkpoint, new seeds are added. Exit status: 0 every trial finished (one that diverged is
finished), 1 some trial failed, 2 bad usage (nothing started), 130 interrupted.
"""

import os
import sys
from pathlib import Path

# The package, and the losses that a user keeps beside the configs.
sys.path[:0] = [str(Path(__file__).parents[1]), str(Path.cwd())]

from ablations.sweep import cli, run  # noqa: E402
from ablations.sweep.display import Display  # noqa: E402
from ablations.sweep.errors import UsageError  # noqa: E402
from ablations.sweep.lease import Lease, LeaseHeldError  # noqa: E402
from ablations.sweep.local import LocalLauncher  # noqa: E402
from ablations.sweep.tracking import sending  # noqa: E402

REPORTS = Path("reports")


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    args = cli.parse(arguments)
    request = cli.resolve(args)
    run.check_continues(request)
    if args.dry_run:
        cli.print_plan(args, request)
        return 0
    os.environ["WANDB_MODE"] = args.wandb  # the trials inherit it
    slurm = None
    if args.launcher == "slurm":
        slurm = cli.slurm_launcher(args, report_command(request.work_dir, args.wandb))
    launcher = slurm or LocalLauncher(args.workers)
    with Lease(request.work_dir):
        if args.retry_failed:
            run.set_failed_aside(request)
        todo = cli.unfinished(request)
        changed = bool(todo)
        if todo:
            checked = (run.preflight_without_torch if slurm else run.preflight)(request)
            for line in checked["notes"]:
                print(line, flush=True)
            run.write_sweep(request, checked["data"], run.command_line())
            todo = cli.unfinished(request)
        if todo:
            print(cli.headline(args, request), flush=True)
            job = run.job(request, todo)
            if slurm and not args.wait:
                print(cli.submitted(slurm.submit(job), request.work_dir))
                return 0
            with Display() as display, sending(request.work_dir, args.wandb):
                launcher.run(job, display)
        else:
            print(f"all {len(request.trials)} trials of {request.work_dir} are done", flush=True)
    if not args.no_report:
        report(request.work_dir, changed)
    if args.wandb != "disabled":
        from ablations.reporting.wandb_sync import after_sweep

        after_sweep(request.work_dir, REPORTS / request.work_dir.name, args.wandb == "online")
    return cli.conclude(request)


def report_command(work_dir: Path, wandb: str) -> list[str]:
    """What a cluster runs to write the report, and to send it, when the sweep has ended."""
    script = Path(__file__).with_name("report.py")
    command = [sys.executable, str(script), str(work_dir), "--out", str(REPORTS / work_dir.name)]
    return [*command, "--wandb"] if wandb == "online" else command


def report(work_dir: Path, changed: bool) -> None:
    """Write the sweep's report, unless there is one and nothing has changed."""
    out = REPORTS / work_dir.name
    if changed or not (out / "README.md").is_file():
        from ablations.reporting.report import write_report

        write_report([work_dir], out)
    print(f"report: {out / 'README.md'}", flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (UsageError, LeaseHeldError) as error:
        print(f"sweep.py: error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted; the same command continues", file=sys.stderr)
        sys.exit(130)
