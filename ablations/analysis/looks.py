"""Were seeds added after others had been looked at? What level the report can then still claim.

Whoever adds seeds until a difference is significant tests the same numbers again and again, and
each look is another chance of a false difference (Armitage, McPherson and Rowe, Journal of the
Royal Statistical Society A 132, 1969). Whatever the looks have in common, the chance of any false
difference over k of them is at most k times that of one: Boole's inequality, as in Bonferroni's
correction.

That somebody looked is not on record; that it was possible is. A command that asks for seeds which
no earlier command of its sweep asked for, at a time when two seeds or more (fewer give no p value)
had finished, counts as a look at those. A sweep that was interrupted and continued by the same
command does not: its seeds were all planned at first.
"""

import shlex
from dataclasses import dataclass
from datetime import datetime, timezone

from ablations.analysis.study import Study
from ablations.store.manifest import Manifest

DEFAULT_SEEDS = frozenset({0})  # of a command without --seeds
FEWEST_SEEDS = 2


@dataclass(frozen=True)
class Looks:
    """``earlier``: the seeds that had finished at each look before the report's own, ascending."""

    earlier: list[tuple[int, ...]]

    @property
    def count(self) -> int:
        """All looks, the report's own among them."""
        return len(self.earlier) + 1

    def level(self, alpha: float) -> float:
        """The most that the chance of a false difference can be, if each look is at ``alpha``."""
        return min(1.0, self.count * alpha)


def looks(study: Study) -> Looks:
    """The looks that the sweeps' commands and their trials' times allow for."""
    finished = _finished_at(study)
    planned: set[int] = set()
    found: dict[tuple[int, ...], None] = {}
    for started, seeds in _commands(study.manifests, set(study.seeds)):
        if planned and seeds - planned:
            seen = tuple(sorted(s for s in planned if s in finished and finished[s] <= started))
            if len(seen) >= FEWEST_SEEDS:
                found[seen] = None
        planned |= seeds
    return Looks(list(found))


def command_seeds(command: str) -> frozenset[int]:
    """The seeds that a command of ``runners/sweep.py`` asks for."""
    words = shlex.split(command)
    found: frozenset[int] = DEFAULT_SEEDS
    for at, word in enumerate(words):
        name, _, value = word.partition("=")
        if name != "--seeds":
            continue
        numbers = [value] if value else []
        for follower in words[at + 1 :]:
            if not follower.isdecimal():
                break
            numbers.append(follower)
        found = frozenset(map(int, numbers))  # of several, argparse takes the last
    return found


def _commands(manifests: list[Manifest], known: set[int]) -> list[tuple[datetime, set[int]]]:
    """When each command started and which of the study's seeds it asks for, in order of time."""
    calls = [
        (time, set(command_seeds(call.get("command", ""))) & known)
        for manifest in manifests
        for call in manifest.commands
        if (time := _time(call.get("started"))) is not None
    ]
    return sorted(calls, key=lambda call: call[0])


def _finished_at(study: Study) -> dict[int, datetime]:
    """When the last finished trial of each seed ended (or, if that is not known, started)."""
    last: dict[int, datetime] = {}
    for state in study.records:
        record = state.record
        if record is None or record.status != "finished" or not record.attempts:
            continue
        attempt = record.attempts[-1]
        time = _time(attempt.get("ended") or attempt.get("started"))
        if time is not None:
            seed = state.entry.seed
            last[seed] = max(last.get(seed, time), time)
    return last


def _time(text: object) -> datetime | None:
    """An ISO 8601 time, in UTC where it names no zone; ``None`` if it is none."""
    try:
        time = datetime.fromisoformat(str(text).removesuffix("Z"))
    except ValueError:
        return None
    return time if time.tzinfo else time.replace(tzinfo=timezone.utc)
