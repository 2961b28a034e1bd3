"""Write the report of one or several sweeps, from their records alone."""

import argparse
import sys
import webbrowser
from collections.abc import Sequence
from pathlib import Path

from ablations.commands.output import refuse, until_closed
from ablations.reporting.page.write import PAGE
from ablations.reporting.report import write_report
from ablations.store import wandb_names
from ablations.store.choosing import ONLY


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description="Write the report of one or several sweeps, from their records alone."
    )
    parser.add_argument("work_dirs", nargs="+", type=Path, metavar="WORK_DIR")
    parser.add_argument(
        "--out", type=Path, help="the report's folder (default: reports/<name of the sweeps>)"
    )
    parser.add_argument("--baseline", metavar="LABEL", help="cell to compare with (default: CE)")
    parser.add_argument("--only", nargs="+", default=[], metavar="K=V", help=ONLY)
    parser.add_argument("--open", action="store_true", help=f"open its {PAGE} in a browser")
    parser.add_argument(
        "--wandb", action="store_true", help="upload the runs and the report to W&B"
    )
    options = parser.parse_args(arguments)
    if options.only and options.wandb:
        parser.error("--only goes without --wandb: the dashboard shows whole sweeps")
    return options


@until_closed
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns 0 (written), 1 (not all was uploaded) or 2 (bad input)."""
    options = parse(arguments)
    names = dict.fromkeys(folder.resolve().name for folder in options.work_dirs)
    out = options.out or Path("reports") / "+".join([*names, *(["only"] if options.only else [])])
    try:
        if options.wandb:
            wandb_names.mode()  # or it is refused
            wandb_names.check()
        path = write_report(options.work_dirs, out, options.baseline, options.only)
    except (ValueError, OSError) as error:
        refuse(error)
        return 2
    print(path)
    page = path.with_name(PAGE)
    print(page)
    if options.open and not webbrowser.open(page.resolve().as_uri()):
        print(f"no browser was found to open {page}", file=sys.stderr)
    if options.wandb:
        from ablations.reporting.wandb_dashboard import publish

        try:
            return 0 if publish(options.work_dirs, out, options.baseline) else 1
        except Exception as error:  # wandb raises what it likes; the report is there
            print(f"W&B: not uploaded: {' '.join(str(error).split())}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
