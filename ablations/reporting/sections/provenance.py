"""What is missing and why, and how to make it all again."""

from typing import Any

import pandas as pd

from ablations.analysis.merge import code_states
from ablations.analysis.study import Study
from ablations.reporting.figures.writer import FigureWriter
from ablations.reporting.sections.section import Section, heading, paragraphs, shown
from ablations.reporting.table_formats import MISSING, Table, to_markdown
from ablations.store.record import Record

MOST_NAMES = 50  # of trials in one line; trials.csv names all


def incomplete(study: Study, figures: FigureWriter) -> Section:
    """Every trial that was planned and did not finish, with its reason."""
    rows = study.trials[study.trials["state"] != "finished"]
    title = heading("Failed, diverged and missing trials")
    if rows.empty:
        return Section(paragraphs(title, f"None: all {len(study.trials)} planned trials finished."))
    data = rows[["label", "seed", "state", "reason", "sweep", "trial_id"]]
    text = pd.DataFrame(
        {
            "cell": data["label"],
            "seed": data["seed"],
            "state": data["state"],
            "reason": data["reason"].where(data["reason"].notna(), MISSING),
            "trial": data["trial_id"],
        }
    )
    table = Table("incomplete", "Trials that are in no mean of this report", text, data)
    return Section(paragraphs(title, shown(table)), [table])


def provenance(study: Study, figures: FigureWriter) -> Section:
    """Commands, machines, versions, commits, data and protocol."""
    calls = commands(study)
    records = _records(study)
    protocol = protocol_line(study)
    facts_text = "\n".join(f"- {name}: {'; '.join(v)}" for name, v in facts(study).items() if v)
    return Section(
        paragraphs(
            heading("How it was made"),
            to_markdown(pd.DataFrame(calls)) if calls else "",
            facts_text,
            _code(study),
            _taken_over(records),
            f"Protocol: {protocol}." if protocol else "",
            "All trials, one row each: [trials.csv](trials.csv).",
        )
    )


def commands(study: Study) -> list[dict[str, str]]:
    """Every command that worked on the sweeps: ``sweep``, ``command``, ``started``, ``machine``."""
    return [
        {
            "sweep": manifest.sweep,
            "command": f"`{call.get('command', '')}`",
            "started": call.get("started", MISSING),
            "machine": call.get("machine", MISSING),
        }
        for manifest in study.manifests
        for call in manifest.commands
    ]


def facts(study: Study) -> dict[str, list[str]]:
    """Versions, commits, devices and data of the trials, each distinct value once."""
    records = _records(study)
    return {
        "versions": _distinct([_flat(record.versions) for record in records]),
        "commit": _distinct([_commit(record.git) for record in records]),
        "device": _distinct([record.device for record in records]),
        "data": _distinct([_data(record.data) for record in records]),
    }


def protocol_line(study: Study) -> str:
    """The protocol's entries with their values, "or" between those that differ."""
    return _protocol([record.protocol for record in _records(study)])


def _records(study: Study) -> list[Record]:
    return [state.record for state in study.records if state.record is not None]


def _code(study: Study) -> str:
    """Which trials were computed with which state of this package's code, where there are two."""
    found = code_states(study.records)
    if len(found) < 2:
        return ""
    lines = []
    for one in found:
        digests = ", ".join(f"{name} `{digest[:12]}`" for name, digest in sorted(one.code.items()))
        commits = ", ".join(f"`{commit[:12]}`" for commit in one.commits)
        cells = [
            f"{label} (seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))})"
            for label, seeds in one.seeds.items()
        ]
        more = f" and {len(cells) - MOST_NAMES} more cells" if len(cells) > MOST_NAMES else ""
        lines.append(
            f"- {digests or 'not recorded'}{f', commit {commits}' if commits else ''}: "
            f"{', '.join(cells[:MOST_NAMES])}{more}"
        )
    intro = "These trials were computed with different states of this package's code:"
    return "\n".join([intro, "", *lines])


def _taken_over(records: list[Record]) -> str:
    """Which trials other sweeps trained, and how, a line each sweep and command."""
    trials: dict[str, list[str]] = {}
    for record in records:
        if origin := record.taken_from:
            made = (_commit(record.git), record.device, _flat(record.versions))
            line = "from sweep {sweep} (`{work_dir}`), by `{command}`; ".format(**origin)
            name = f"{record.label} seed {record.seed} (`{record.trial_id}`)"
            trials.setdefault(line + "; ".join(_distinct(list(made))), []).append(name)
    if not trials:
        return ""
    lines = []
    for line, names in trials.items():
        more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
        lines.append(f"- {len(names)} {line}: {', '.join(names[:MOST_NAMES])}{more}")
    intro = (
        "Trials taken over from other sweeps, not trained by the commands above; each was verified "
        "by its id, the checksums of its data and those of its files:"
    )
    return "\n".join([intro, "", *lines])


def _distinct(values: list[str]) -> list[str]:
    return [value for value in dict.fromkeys(values) if value]


def _flat(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _commit(git: dict[str, Any]) -> str:
    if not git.get("commit"):
        return ""
    return f"`{str(git['commit'])[:12]}`" + (
        " with uncommitted changes" if git.get("dirty") else ""
    )


def _data(data: dict[str, Any]) -> str:
    if not data:
        return ""
    parts = [
        f"{part} {data[part].get('images')} images, {data[part].get('boxes')} boxes, annotations "
        f"`{str(data[part].get('annotations'))[:12]}`"
        for part in ("train", "val")
        if part in data
    ]
    return ", ".join([f"{data.get('name')} {data.get('version') or ''}".strip(), *parts])


def _protocol(protocols: list[dict[str, Any]]) -> str:
    names = dict.fromkeys(name for protocol in protocols for name in protocol)
    parts = []
    for name in names:
        values = list(dict.fromkeys(str(protocol.get(name)) for protocol in protocols))
        parts.append(f"{name} {' or '.join(values)}")
    return ", ".join(parts)
