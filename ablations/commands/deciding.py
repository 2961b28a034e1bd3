"""Sequential sweeps on the command line: the rounds of ``sweep --decide``, and what is known.

The state is derived from the records alone (``ablations.analysis.decisions``), so a round begins
where the last command of whatever launcher stopped.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ablations.analysis import decisions
from ablations.analysis.decisions import CellDecision, Decisions, Design
from ablations.analysis.study import is_plain_ce
from ablations.store.manifest import Manifest, read_manifest
from ablations.store.states import TrialState
from ablations.sweep.display import in_columns
from ablations.sweep.errors import UsageError
from ablations.sweep.request import Request, check_continues

MOST_CELLS = 20  # in one line


@dataclass(frozen=True)
class Rounds:
    """A sequential sweep. ``whole`` asks for every trial that may ever be needed."""

    whole: Request
    design: Design

    def now(self) -> Decisions:
        """The state, from the records that there are."""
        return decisions.decide(self.design, decisions.outcomes(self.whole.states()))

    def request(self) -> Request:
        """The trials that were given out so far, and those of the round that runs next."""
        manifest = read_manifest(self.whole.work_dir)
        given = {(entry.label, entry.seed) for entry in manifest.trials} if manifest else set()
        given |= set(self.now().todo)
        trials = [t for t in self.whole.trials if (t.point.label, t.seed) in given]
        return replace(self.whole, trials=trials, decide=self.design.as_json())

    def expected_trials(self) -> float | None:
        """How many more trials are expected, those of this round among them."""
        return decisions.expected_trials(self.design, decisions.outcomes(self.whole.states()))


def rounds(args: argparse.Namespace, whole: Request) -> Rounds:
    """The sequential sweep that the flags ask for.

    Raises:
        UsageError: the question cannot be asked of this grid, or the work directory holds another
            sweep.
    """
    labels = [point.label for point in whole.grid.points]
    baseline = whole.grid.baseline
    if baseline is None:
        plain = (p.label for p in whole.grid.points if is_plain_ce(p.label, p.coordinates))
        baseline = next(plain, None)
    try:
        asked = decisions.design(
            args.decide, args.margin, args.max_seeds, labels, baseline, args.seeds
        )
        check_continues(replace(whole, decide=asked.as_json()))
        manifest = read_manifest(whole.work_dir)
        if manifest is not None and manifest.decide is not None:
            asked = decisions.read_design(manifest.decide)  # its looks were declared
    except UsageError:
        raise
    except ValueError as error:
        raise UsageError(str(error)) from None
    return Rounds(whole, asked)


def next_round_command(arguments: Sequence[str] | None) -> list[str]:
    """The command by which a cluster submits the next round: this one, but it retries nothing."""
    flags = list(sys.argv[1:] if arguments is None else arguments)
    kept = [flag for flag in flags if not (len(flag) > 4 and "--retry-failed".startswith(flag))]
    return [sys.executable, "-m", "ablations.commands", "sweep", *kept]


def is_noted(work_dir: Path, command: Sequence[str]) -> bool:
    """Whether the manifest holds a command with the flags of this one, as that of an earlier round
    does."""
    manifest = read_manifest(work_dir)
    flags = " ".join(command).partition("--")[2]
    noted = manifest.commands if manifest is not None else []
    return any(call.get("command", "").partition("--")[2] == flags for call in noted)


def decided(manifest: Manifest, states: Sequence[TrialState]) -> Decisions | None:
    """The state of a sweep, or ``None`` for one of a fixed design.

    Raises:
        ValueError: the manifest's design cannot be read.
    """
    if manifest.decide is None:
        return None
    design = decisions.read_design(manifest.decide)
    return decisions.decide(design, decisions.outcomes(states))


def known(found: Decisions) -> str:
    """What is known of each cell, as a table; the question and the looks in a line above."""
    header = ("cell", "seeds", "verdict", "since", "corrected p", _difference(found))
    rows = [_row(cell) for cell in found.cells]
    return f"{question(found.design)}\n{in_columns(header, rows)}"


def question(design: Design) -> str:
    """The design in one line."""
    at = ", ".join(str(look.seeds) for look in design.looks)
    against = f" {design.baseline}" if design.baseline else ""
    return (
        f"decides: {design.question}{against}, margin {design.margin:g} AP, at most "
        f"{len(design.seeds)} seeds, looks at {at}; any wrong verdict: at most "
        f"{100 * design.alpha:g} %"
    )


def _difference(found: Decisions) -> str:
    return f"AP minus {found.reference}'s" if found.reference else "difference"


def _row(cell: CellDecision) -> tuple[str, ...]:
    since = f"seed {cell.since}" if cell.since else ""
    gap = ""
    if np.isfinite(cell.difference) and np.isfinite(cell.low):
        gap = f"{cell.difference:+.2f} [{cell.low:+.2f}, {cell.high:+.2f}]"
    return cell.label, str(cell.seeds), cell.verdict, since, p_text(cell.p), gap


def p_text(p: float) -> str:
    """A corrected p for people; empty where there is none."""
    if not np.isfinite(p):
        return ""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def why(found: Decisions) -> str:
    """What runs next and why, or why nothing does."""
    if found.stopped:
        return f"over: {found.stopped}"
    if found.next_look is None and found.answered:
        return f"over: every question has an answer; {answer(found)}"
    if found.next_look is None:
        return f"over: the {len(found.design.seeds)} seeds are spent; {answer(found)}"
    cells = list(dict.fromkeys(label for label, _ in found.todo))
    reason = "every cell gets its first seeds" if not found.past else f"open: {_open(found)}"
    return (
        f"next: {len(found.todo)} trials of {len(cells)} cells up to {found.next_look.seeds} seeds "
        f"({reason})"
    )


def answer(found: Decisions) -> str:
    """The verdicts, cells together that have the same."""
    groups: dict[str, list[str]] = {}
    for cell in found.cells:
        if cell.verdict != decisions.BASELINE:
            groups.setdefault(cell.verdict, []).append(cell.label)
    return "; ".join(f"{verdict}: {_some(labels)}" for verdict, labels in groups.items())


def _open(found: Decisions) -> str:
    texts = [
        f"{cell.label} (p {text})" if (text := p_text(cell.p)) else cell.label
        for cell in found.cells
        if cell.verdict == decisions.OPEN
    ]
    return _some(texts)


def _some(texts: Sequence[str]) -> str:
    more = f" and {len(texts) - MOST_CELLS} more" if len(texts) > MOST_CELLS else ""
    return ", ".join(texts[:MOST_CELLS]) + more


def unresolved_line(found: Decisions) -> str:
    """That the margin is too small for the noise seen, with the seeds that would do; empty if it is
    not, or the noise is not known yet."""
    if not found.past:
        return ""
    beyond = decisions.unresolved(found.design, found.paired_sd)
    if beyond is None:
        return ""
    reach, seeds = beyond
    most = decisions.MOST_NEEDED
    takes = f"about {seeds} seeds" if seeds is not None else f"more than {most} seeds"
    given = len(found.design.seeds)
    return (
        f"--margin {found.design.margin:g} cannot be resolved with {given} seeds: "
        f"at the noise seen (paired standard deviation {found.paired_sd:.2f} AP) they resolve "
        f"{reach:.2f} AP; it would take {takes}"
    )


def print_next(plan: Rounds, device_s: float | None) -> None:
    """What ``--dry-run`` adds: what is known, what runs next and why, and what it all may cost.

    Args:
        plan: the sweep.
        device_s: of one trial, if it is known.
    """
    found = plan.now()
    print(known(found))
    print(why(found))
    if line := unresolved_line(found):
        print(line)
    if found.todo:
        print(_expected(plan, found, device_s))


def _expected(plan: Rounds, found: Decisions, device_s: float | None) -> str:
    def cost(trials: float) -> str:
        hours = f", {trials * device_s / 3600:.2f} device-hours" if device_s is not None else ""
        return f"{trials:.0f} trials{hours}"

    going = {label for label, _ in found.todo}
    given = sum(cell.given for cell in found.cells if cell.label in going)
    most = len(going) * len(found.design.seeds) - given
    expected = plan.expected_trials()
    if expected is None:
        return (
            f"to the end: {cost(len(found.todo))} to {cost(most)}; a better estimate takes the "
            "noise of two seeds"
        )
    return (
        f"to the end: about {cost(expected)}, by simulation with the means and the noise so far "
        f"(paired standard deviation {found.paired_sd:.2f} AP); at most {cost(most)}"
    )
