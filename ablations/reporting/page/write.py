"""Write ``report.html``."""

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from ablations.analysis.loss_cdf import FIGURE_4_GAMMAS, HARDEST_NEGATIVES, HARDEST_POSITIVES
from ablations.analysis.study import Study
from ablations.reporting.page import library
from ablations.reporting.page.charts import chart_specs
from ablations.reporting.page.detections import detections_data
from ablations.reporting.page.differences import differences_data
from ablations.reporting.page.grid import cell_table, findings, grid_data, shown_cells
from ablations.reporting.page.models import (
    curves_data,
    followed_trials,
    logits_data,
    loss_shapes_data,
)
from ablations.reporting.sections.cdfs import figure_4_trial
from ablations.reporting.sections.provenance import commands, facts, protocol_line
from ablations.reporting.sections.section import MOST_ROWS
from ablations.reporting.sections.summary import (
    looks_note,
    mixed_code_note,
    only_note,
    scope,
    sequential_note,
)
from ablations.store.record import METRICS

PAGE = "report.html"
FOLDER = Path(__file__).parent


def write_page(study: Study, path: Path) -> Path:
    """Write the page of a study to ``path``: the same records give the same bytes. What belongs to
    a file that cannot be read is left out."""
    labels = shown_cells(study)
    data = page_data(study, labels)
    scripts = [library.script(), _asset("loss.js"), _asset("page.js")]
    style = _asset("page.css")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["code"] = code_spans
    html = environment.get_template("page.html").render(
        title=" + ".join(manifest.sweep for manifest in study.manifests),
        policy=content_security_policy(scripts, style),
        style=Markup(style),
        scripts=[Markup(script) for script in scripts],
        data=Markup(embedded_json(data)),
        metrics=METRICS,
        rows=cell_table(study, labels),
        **_texts(study, data),
    )
    path.write_text(html, encoding="utf-8")
    return path


def page_data(study: Study, labels: list[str]) -> dict[str, Any]:
    """Everything that the page's script reads."""
    grid = grid_data(study, labels)
    followed = followed_trials(study, labels)
    usual = figure_4_trial(study)
    return {
        **grid,
        "baseline": study.baseline,
        "findings": findings(study, grid),
        "differences": differences_data(study, labels),
        "curves": curves_data(followed),
        "logits": logits_data(followed),
        "usual_trial": None if usual is None else usual.entry.id,
        "shapes": loss_shapes_data(),
        "cdf_gammas": FIGURE_4_GAMMAS,
        "hardest": {"positive": HARDEST_POSITIVES, "negative": HARDEST_NEGATIVES},
        "detections": detections_data(study, labels),
        "charts": chart_specs(grid["coordinates"], len(labels)),
    }


def _texts(study: Study, data: dict[str, Any]) -> dict[str, Any]:
    """What the template writes as it stands."""
    lacking = study.trials[study.trials["state"] != "finished"]
    shown = lacking[:MOST_ROWS][["label", "seed", "state", "reason", "trial_id"]]
    grid = study.manifests[0].grid
    return {
        "subtitle": str(grid.get("title") or "").strip(),
        "scope": scope(study),
        "smoke": any(manifest.options.get("smoke") for manifest in study.manifests),
        "one_seed": bool((study.finished.groupby("label").size() <= 1).all()),
        "warnings": [note.replace("**", "") for note in _warnings(study) if note],
        "notes": list(
            dict.fromkeys(
                str(m.grid["note"]).strip() for m in study.manifests if m.grid.get("note")
            )
        ),
        "cells_planned": len(study.labels),
        "missing": [
            {name: "-" if value is None or value != value else value for name, value in row.items()}
            for row in shown.to_dict("records")
        ],
        "missing_all": len(lacking),
        "commands": commands(study),
        "facts": facts(study),
        "protocol": protocol_line(study),
        "on_axes": data["coordinates"] is not None,
        "data_note": data["differences"]["note"],
    }


def _warnings(study: Study) -> tuple[str, ...]:
    """What a reader must know first."""
    notes = (only_note, sequential_note, looks_note, mixed_code_note)
    return tuple(note(study).replace("*Sequential design*", "its README.md") for note in notes)


def content_security_policy(scripts: list[str], style: str) -> str:
    """Nothing is loaded and nothing runs but these scripts and this style, by their hashes; images
    are data inside the file."""
    allowed = " ".join(f"'sha256-{_digest(script)}'" for script in scripts)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'sha256-{_digest(style)}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def embedded_json(value: Any) -> str:
    """``value`` as JSON that is safe inside a script element: no text of a record can end it.

    Raises:
        ValueError: a number is NaN or infinite.
    """
    text = json.dumps(value, allow_nan=False, separators=(",", ":"), ensure_ascii=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def code_spans(text: object) -> Markup:
    """Escaped text with its parts between backticks as code."""
    parts = str(text).split("`")
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if index % 2 else escape(part)
        for index, part in enumerate(parts)
    )


def _asset(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
