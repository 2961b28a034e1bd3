"""Train a detector over a grid of losses and write the report.

    python runners/sweep.py --grid gamma_alpha

The same command again continues: finished trials are skipped, interrupted ones resume from their
checkpoint, new seeds are added. Exit status: 0 every trial finished (a diverged trial is finished),
1 some trial did not, or another command has taken the sweep over, or the disk is full, 2 bad usage
(nothing was started), 130 interrupted.
"""

import argparse
import functools
import importlib
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablations.commands.output import refuse, until_closed
from ablations.shipped import command
from ablations.store.lease import Lease, LeaseHeldError, LeaseLostError
from ablations.store.manifest import Entry, trial_folder
from ablations.store.processes import tell_main_thread
from ablations.store.record import CONFIG, DamagedRecordError
from ablations.store.storage import StorageError, described
from ablations.sweep import cli
from ablations.sweep.display import Display
from ablations.sweep.entry_points import EntryPoints
from ablations.sweep.errors import UsageError
from ablations.sweep.launchers.launcher import Launch, Launcher
from ablations.sweep.launchers.stopping import stopped_by_signals
from ablations.sweep.preflight import preflight, preflight_without_torch
from ablations.sweep.repair import repair
from ablations.sweep.request import Request, check_continues, worth_sharing
from ablations.sweep.wandb_upload import uploading
from ablations.sweep.work_dir import (
    command_line,
    set_failed_aside,
    update_manifest,
    write_sweep,
)

if TYPE_CHECKING:
    from ablations.commands.deciding import Rounds

REPORTS = Path("reports")
UPLOADER = "ablations.reporting.wandb_sync"
TRAINING = EntryPoints(
    run_trial="ablations.training.trial:main",
    check_configs="ablations.training.preflight:check_configs",
    check_planned="ablations.training.preflight:check_planned",
    fetch_weights="ablations.training.preflight:fetch_weights",
    check_batches="ablations.training.first_batch:check_batches",
    share_data="ablations.training.shared_data:load",
    remember_code="ablations.training.code:remember",
)


@until_closed
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    args = argparse.Namespace()
    try:
        with stopped_by_signals():
            args = cli.parse(arguments)
            return _run(args, arguments)
    except (UsageError, LeaseHeldError, DamagedRecordError) as error:
        refuse(error)
        return 2
    except LeaseLostError as error:
        print(f"{error}; its trials were stopped here", file=sys.stderr)
        return 1
    except BrokenPipeError:
        raise
    except (StorageError, OSError) as error:
        why = described(error) if isinstance(error, OSError) else str(error)
        refuse(f"{why}; once that is mended, the same command continues")
        return 1 if "begun" in args else 2
    except KeyboardInterrupt:
        print("interrupted; the same command continues", file=sys.stderr)
        return 130


def _run(args: Any, arguments: Sequence[str] | None) -> int:
    request = cli.resolve(args)
    rounds = _rounds(args, request)
    if rounds is None:
        check_continues(request)
    else:
        request = rounds.request()
    if args.dry_run:
        cli.print_plan(args, request)
        if rounds is not None and not args.json:
            deciding().print_next(rounds, cli.trial_seconds(args, request))
        return 0
    os.environ["WANDB_MODE"] = args.wandb  # for the trials, which inherit it
    report = report_command(request.work_dir, args.wandb)
    then = deciding().next_round_command(arguments) if rounds is not None else ()
    launcher = cli.make_launcher(args, TRAINING, report, then)
    stop = functools.partial(tell_main_thread, signal.SIGTERM)
    with Lease(request.work_dir, stop):
        repair(request)
        if args.retry_failed:
            set_failed_aside(request)
        sweep = Sweep(args, launcher)
        if rounds is None:
            queued = sweep.run(request)
        else:
            request, queued = _run_rounds(rounds, sweep)
        if queued:
            return 0
    if not args.no_report:
        # A cluster's last job runs nothing, but its round has changed the verdicts.
        _report(request.work_dir, sweep.changed or rounds is not None)
    if args.wandb != "disabled":
        upload(request.work_dir, REPORTS / request.work_dir.name, args.wandb == "online")
    status = cli.print_outcome(request)
    if rounds is not None:
        print(deciding().why(rounds.now()), flush=True)
    return status


@dataclass
class Sweep:
    """Runs requests one after another: one for a fixed design, one a round for a sequential one."""

    args: Any
    launcher: Launcher
    changed: bool = False  # whether a trial was run, or the manifest changed
    data: dict[str, Any] | None = None  # of the checked plan

    def run(self, request: Request, known: Sequence[str] = ()) -> bool:
        """Run the trials that have no record; returns whether a queue has them now.

        Args:
            request: the trials.
            known: lines to show beside them.
        """
        todo = cli.unfinished(request)
        self.changed |= bool(todo) or update_manifest(request)
        share = self.launcher.trains_here and worth_sharing(request, len(todo))
        if todo:
            self._prepare(request, share)
            todo = cli.unfinished(request)  # fewer, if some were taken over
        if not todo:
            if not known:
                done = f"all {len(request.trials)} trials of {request.work_dir} are done"
                print(done, flush=True)
            return False
        print(cli.headline(self.args, request), flush=True)
        self.args.begun = True
        launch = _launch(request, todo, share)
        if queued := self.launcher.hand_over(launch):
            print(queued)
            return True
        mode = self.args.wandb
        with Display(notes=known) as display, uploading(request.work_dir, mode, UPLOADER):
            self.launcher.run(launch, display)
        return False

    def _prepare(self, request: Request, share: bool) -> None:
        """Check the plan, once, and write it into the work directory."""
        command = command_line()
        if self.data is None:
            images = self.args.check_images
            if self.launcher.trains_here:
                checked = preflight(request, TRAINING, share, images)
            else:
                checked = preflight_without_torch(request, images)
            for line in checked["notes"]:
                print(line, flush=True)
            self.data = checked["data"]
            if request.decide and deciding().is_noted(request.work_dir, command):
                command = []
        else:
            command = []
        write_sweep(request, self.data, command)


def _rounds(args: Any, request: Request) -> "Rounds | None":
    """The rounds of a sequential sweep; ``None`` for a fixed design."""
    return deciding().rounds(args, request) if args.decide else None


def deciding() -> Any:
    """``ablations.commands.deciding``, which imports scipy: a fixed design does without it."""
    return importlib.import_module("ablations.commands.deciding")


def _run_rounds(rounds: "Rounds", sweep: Sweep) -> tuple[Request, bool]:
    """Run round after round until the sweep is over, or a round cannot be completed.

    Returns:
        All trials that were given out, and whether a queue has some of them now.
    """
    warned = False
    while True:
        request, found = rounds.request(), rounds.now()
        if not warned and (line := deciding().unresolved_line(found)):
            print(line, flush=True)
            warned = True
        if not found.todo:
            return request, False
        print(deciding().why(found), flush=True)
        notes = deciding().known(found).splitlines() if found.past else ["no look yet"]
        if sweep.run(request, notes):
            return request, True
        if set(rounds.now().todo) & set(found.todo):  # no record: died, or stopped elsewhere
            return request, False


def _launch(request: Request, todo: Sequence[Entry], share: bool) -> Launch:
    calls: list[tuple[str, ...]] = [(TRAINING.remember_code,)]
    if share:
        config = trial_folder(request.work_dir, todo[0].id) / CONFIG
        calls.append((TRAINING.share_data, str(config)))
    gpus = request.options["gpus_per_trial"]
    return Launch(request.work_dir, todo, TRAINING.run_trial, gpus, calls)


def report_command(work_dir: Path, wandb: str) -> list[str]:
    """The command by which a cluster writes, and perhaps uploads, the report at the end."""
    module = [sys.executable, "-m", "ablations.commands.report"]
    written = [*module, str(work_dir), "--out", str(REPORTS / work_dir.name)]
    return [*written, "--wandb"] if wandb == "online" else written


def _report(work_dir: Path, changed: bool) -> None:
    """Write the report, unless there is one and no trial has changed."""
    out = REPORTS / work_dir.name
    if changed or not (out / "README.md").is_file():
        from ablations.reporting.report import write_report

        write_report([work_dir], out)
    print(f"report: {out / 'README.md'}, and to explore it {out / 'report.html'}", flush=True)


def upload(work_dir: Path, report: Path, online: bool) -> None:
    """Upload what W&B does not have yet if ``online``; otherwise print how to do it.

    Args:
        work_dir: of the sweep.
        report: folder of the sweep's report, which is uploaded too if it is there.
        online: whether to upload.
    """
    from ablations.reporting.wandb_sync import lost_runs, sync, unsent

    if online and unsent([work_dir]) and (report / "README.md").is_file():
        from ablations.reporting.wandb_dashboard import publish

        publish([work_dir], report)
    else:
        if online and unsent([work_dir]):
            print(f"W&B: {sync([work_dir])}", flush=True)
        if line := lost_runs(work_dir):
            print(f"W&B: {line}", flush=True)
    if left := len(unsent([work_dir])):
        print(f"W&B: {left} runs are not uploaded; {command('report')} {work_dir} --wandb does it")
