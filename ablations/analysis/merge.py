"""Several sweeps as one: three seeds on Tuesday, two more on Friday.

Sweeps fit together when they trained under one protocol on the same data. What a grid varies may
differ from cell to cell, but not between two trials of one cell; what is the same over the whole of
one sweep must be the same over the other.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ablations.analysis.frames import Sweeps
from ablations.store.states import TrialState

PREFERENCE = ("finished", "diverged", "failed", "running", "interrupted", "damaged", "pending")
LOSS = "loss"
OURS = "ablations."  # modules of this package
DATA_KEYS = ("name", "version", "classes")


def merge_sweeps(sweeps: Sweeps) -> Sweeps:
    """The same sweeps with every trial once (the one that got furthest, where two have it).

    Raises:
        ValueError: the sweeps differ in protocol or data; the message names what differs.
    """
    problems = mismatches(sweeps)
    if problems:
        raise ValueError("these trials are not one protocol: " + "; ".join(problems))
    best: dict[tuple[str, int], TrialState] = {}
    for _, states in sweeps:
        for state in states:
            key = state.entry.label, state.entry.seed
            held = best.get(key)
            if held is None or _rank(state) < _rank(held):
                best[key] = state
    kept = {id(state) for state in best.values()}
    return [
        (manifest, [state for state in states if id(state) in kept]) for manifest, states in sweeps
    ]


def mismatches(sweeps: Sweeps) -> list[str]:
    """What keeps the sweeps from being one study, one line a difference; empty if nothing does."""
    return _between_trials(sweeps) + _between_sweeps(sweeps) + _between_ids(sweeps)


def comparable_facts(state: TrialState) -> dict[str, Any]:
    """What has to agree between trials of a cell: loss, protocol, data with its checksums."""
    record = state.record
    if record is None:
        return {}
    prints: dict[str, Any] = {LOSS: record.loss}
    prints |= {f"protocol.{name}": value for name, value in record.protocol.items()}
    # The package's own code may have changed in ways that do not matter: ``code_states`` tells.
    users = {name: value for name, value in record.code.items() if not name.startswith(OURS)}
    prints |= {f"code.{name}": value for name, value in users.items()}
    prints |= {f"data.{name}": record.data[name] for name in DATA_KEYS if name in record.data}
    for part in ("train", "val"):
        if part in record.data:
            prints[f"data.{part}.annotations"] = record.data[part].get("annotations")
    return prints


@dataclass(frozen=True)
class CodeState:
    """One state of the package's loss and training code, and what was trained with it.

    ``code`` holds its digests by part, empty for records from before they were kept; ``seeds`` are
    those of each cell, by label; ``commits`` say where that code may be found.
    """

    code: dict[str, str]
    commits: list[str]
    seeds: dict[str, list[int]]


def code_states(states: Iterable[TrialState]) -> list[CodeState]:
    """The states of the package's code that records were made with, in order of appearance."""
    found: dict[tuple[tuple[str, str], ...], CodeState] = {}
    for state in states:
        record = state.record
        if record is None:
            continue
        code = {name: value for name, value in record.code.items() if name.startswith(OURS)}
        one = found.setdefault(tuple(sorted(code.items())), CodeState(code, [], {}))
        commit = str(record.git.get("commit", ""))
        if commit and commit not in one.commits:
            one.commits.append(commit)
        one.seeds.setdefault(state.entry.label, []).append(state.entry.seed)
    return list(found.values())


def mixed_cells(found: Sequence[CodeState]) -> list[str]:
    """Labels of the cells that average trials of several states of the code."""
    labels = dict.fromkeys(label for one in found for label in one.seeds)
    return [label for label in labels if sum(label in one.seeds for one in found) > 1]


def _rank(state: TrialState) -> tuple[int, bool]:
    """The lower the better; of equal ones the trial itself comes before a copy taken from it."""
    taken = state.record is not None and bool(state.record.taken_from)
    return PREFERENCE.index(state.state), taken


def _between_trials(sweeps: Sweeps) -> list[str]:
    """Cells whose trials differ among each other."""
    problems: dict[str, None] = {}
    first: dict[str, tuple[str, dict[str, Any]]] = {}
    for manifest, states in sweeps:
        for state in states:
            found = comparable_facts(state)
            if not found:
                continue
            sweep, held = first.setdefault(state.entry.label, (manifest.sweep, found))
            for name in _unequal(held, found):
                problems[_line(name, sweep, held, manifest.sweep, found)] = None
    return list(problems)


def _between_sweeps(sweeps: Sweeps) -> list[str]:
    """What is constant within each sweep and differs between them."""
    constants = [(manifest.sweep, _constant(states)) for manifest, states in sweeps]
    constants = [(sweep, values) for sweep, values in constants if values]
    problems = []
    for sweep, values in constants[1:]:
        held_sweep, held = constants[0]
        shared = set(held) & set(values)
        problems += [
            _line(name, held_sweep, held, sweep, values)
            for name in _unequal(held, values)
            if name in shared
        ]
    return problems


def _between_ids(sweeps: Sweeps) -> list[str]:
    """Trials of one cell and seed with unequal ids: their configs differ somewhere else."""
    first: dict[tuple[str, int], tuple[str, str]] = {}
    problems = []
    for manifest, states in sweeps:
        for state in states:
            entry = state.entry
            sweep, held = first.setdefault((entry.label, entry.seed), (manifest.sweep, entry.id))
            if held != entry.id:
                problems.append(
                    f"{entry.label} seed {entry.seed} is trial {held} in {sweep} and {entry.id} in "
                    f"{manifest.sweep}: compare their config.py"
                )
    return problems


def _constant(states: list[TrialState]) -> dict[str, Any]:
    prints = [found for state in states if (found := comparable_facts(state))]
    if not prints:
        return {}
    return {
        name: value
        for name, value in prints[0].items()
        if name != LOSS and all(found.get(name) == value for found in prints)
    }


def _unequal(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    return [name for name in sorted({*one, *other}) if one.get(name) != other.get(name)]


def _line(
    name: str, sweep: str, held: dict[str, Any], other_sweep: str, found: dict[str, Any]
) -> str:
    return f"{name} is {held.get(name)} in {sweep} and {found.get(name)} in {other_sweep}"
