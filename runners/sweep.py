"""Train a detector over a grid of losses and write the report.

    python runners/sweep.py --grid gamma_alpha

The same command again continues: finished trials are skipped, interrupted ones go on from their
checkpoint, new seeds are added. Exit status: 0 every trial finished (one that diverged is
finished), 1 some trial failed, 2 bad usage (nothing started), 130 interrupted.
"""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from ablations.sweep import cli, run
from ablations.sweep.display import Display
from ablations.sweep.errors import UsageError
from ablations.sweep.launcher import Job
from ablations.sweep.lease import Lease, LeaseHeldError
from ablations.sweep.local import LocalLauncher
from ablations.sweep.tracking import sending


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    args = cli.parse(arguments)
    request = cli.resolve(args)
    run.check_continues(request)
    if args.dry_run:
        cli.print_plan(args, request)
        return 0
    os.environ["WANDB_MODE"] = args.wandb  # the trials inherit it
    with Lease(request.work_dir):
        if args.retry_failed:
            run.set_failed_aside(request)
        todo = cli.unfinished(request)
        if todo:
            checked = run.preflight(request)
            for line in checked["notes"]:
                print(line, flush=True)
            run.write_sweep(request, checked["data"], run.command_line())
            print(cli.headline(args, request), flush=True)
            with Display() as display, sending(request.work_dir, args.wandb):
                job = Job(request.work_dir, todo, gpus_per_trial=args.gpus_per_trial)
                LocalLauncher(args.workers).run(job, display)
        else:
            print(f"all {len(request.trials)} trials of {request.work_dir} are done", flush=True)
    if not args.no_report:
        report(request.work_dir, bool(todo))
    if args.wandb != "disabled":
        send(request.work_dir, args.wandb == "online", not args.no_report)
    return cli.conclude(request)


def report(work_dir: Path, changed: bool) -> None:
    """Write the sweep's report, unless there is one and nothing has changed."""
    out = Path("reports") / work_dir.name
    if changed or not (out / "README.md").is_file():
        from ablations.reporting.report import write_report

        write_report([work_dir], out)
    print(f"report: {out / 'README.md'}", flush=True)


def send(work_dir: Path, online: bool, with_report: bool) -> None:
    """Send what W&B does not have yet, if that was asked for; otherwise say how to."""
    from ablations.reporting.wandb_sync import sync, unsent

    if online and unsent([work_dir]):
        if with_report:
            from ablations.reporting.wandb_dashboard import publish

            publish([work_dir], Path("reports") / work_dir.name)
        else:
            print(f"W&B: {sync([work_dir])}", flush=True)
    if left := len(unsent([work_dir])):
        print(f"W&B: {left} runs to send; python runners/report.py {work_dir} --wandb sends them")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (UsageError, LeaseHeldError) as error:
        print(f"sweep.py: error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted; the same command continues", file=sys.stderr)
        sys.exit(130)
