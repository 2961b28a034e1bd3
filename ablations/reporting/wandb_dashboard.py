"""The comparison dashboard in W&B: a run with the report, and a workspace of panels.

Both are made without a server: the run is an offline run in ``<work dir>/wandb/``, and the
workspace's specification is written beside it. No other module of reporting imports wandb.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import wandb
from wandb_workspaces import workspaces as ws
from wandb_workspaces.reports import v2 as panels

from ablations.analysis.loss_cdf import FIGURE_4_GAMMAS, loss_cdf, read_logits
from ablations.analysis.study import Study, load_study
from ablations.reporting.figures.loss_cdfs import thinned
from ablations.reporting.report import README
from ablations.reporting.sections.cdfs import figure_4_trial
from ablations.reporting.wandb_sync import lost_runs, sync, unsent
from ablations.store import wandb_names as tracking
from ablations.store.files import read_json, write_json, write_text
from ablations.store.record import PROBABILITIES

SPECIFICATION = "workspace.json"
VIEW = "view.json"
SAVE_TIMEOUT = 60.0  # seconds
REPORT_TYPE = "report"  # of the artifact
_FIGURE_4 = "figure_4"  # the trials' own charts are loss_cdf/...
_CDF_KINDS = ("positive", "negative")
_CURVES = ("loss", "loss_cls", "loss_cls_positive", "loss_cls_negative", "loss_bbox")
_METRICS = ("AP", "AP50", "AP75")


def log_report(study: Study, work_dirs: Sequence[Path], out: Path) -> str:
    """Write the report as an offline run, in place of an earlier one.

    It holds the report's tables and figures, Figure 4 as a native chart, and the report's folder as
    an artifact.

    Args:
        study: of the report.
        work_dirs: its sweeps; the run lies in the first.
        out: the report's folder.

    Returns:
        The run's id, which is the sweeps' names.
    """
    folder = work_dirs[0].resolve()
    for stale in (folder / tracking.FOLDER).glob("offline-run-*"):
        shutil.rmtree(stale)
    shutil.rmtree(folder / tracking.FOLDER / "staging", ignore_errors=True)
    tracking.keep_inside(folder)
    names = sweep_names(study)
    identity = re.sub(r"[^\w.-]", "-", "+".join(names))[:120]  # the artifact's name is longer
    run = wandb.init(
        mode="offline",
        project=tracking.project(),
        id=identity,
        name=f"{' + '.join(names)}: report",
        group="report",
        job_type="report",
        tags=[tracking.tag(name) for name in names],
        config={"sweeps": names, "seeds": study.seeds, "baseline": study.baseline},
        dir=str(folder),
        settings=wandb.Settings(**tracking.OFFLINE_SETTINGS),
    )
    run.log({**_tables(out), **_figures(out), **_cdf_charts(study)})
    artifact = wandb.Artifact(f"{REPORT_TYPE}-{identity}", type=REPORT_TYPE)
    artifact.add_dir(str(out))
    run.log_artifact(artifact)
    states = study.trials["state"].value_counts()
    run.summary.update({f"trials/{state}": int(count) for state, count in states.items()})
    run.finish()
    wandb.teardown()
    return identity


def _tables(out: Path) -> dict[str, wandb.Table]:
    files = [*sorted((out / "tables").glob("*.csv")), out / "trials.csv"]
    frames = {f"tables/{file.stem}": pd.read_csv(file) for file in files}
    return {
        name: wandb.Table(
            columns=[str(column) for column in frame.columns],
            data=frame.astype(object).where(frame.notna(), None).to_numpy(),
            allow_mixed_types=True,
        )
        for name, frame in frames.items()
    }


def _figures(out: Path) -> dict[str, wandb.Image]:
    files = sorted((out / "figures").glob("*.png"))
    return {f"figures/{file.stem}": wandb.Image(str(file)) for file in files}


def _cdf_charts(study: Study) -> dict[str, Any]:
    """Figure 4 as charts that W&B draws."""
    state = figure_4_trial(study)
    if state is None:
        return {}
    try:
        sample = read_logits(state.folder / PROBABILITIES)
    except ValueError:  # the report says what is wrong with it
        return {}
    charts = {}
    for kind in _CDF_KINDS:
        counts = getattr(sample, kind)
        if not counts.any():
            continue
        curves = [thinned(loss_cdf(counts, kind == "positive", g)) for g in FIGURE_4_GAMMAS]
        charts[f"{_FIGURE_4}/{kind}s"] = wandb.plot.line_series(
            xs=[fraction.tolist() for fraction, _ in curves],
            ys=[share.tolist() for _, share in curves],
            keys=[f"gamma={gamma:g}" for gamma in FIGURE_4_GAMMAS],
            title=f"Cumulative loss of {kind}s, easiest first ({state.entry.label})",
            xname=f"fraction of {kind}s",
        )
    return charts


def sweep_names(study: Study) -> list[str]:
    """The sweeps of a study, each once."""
    return list(dict.fromkeys(manifest.sweep for manifest in study.manifests))


def workspace(study: Study, markdown: str, entity: str) -> ws.Workspace:
    """The dashboard: AP over the grid, losses by group, the report, and the runs side by side.

    Args:
        study: its axes and sweeps are the dashboard's.
        markdown: the report's text.
        entity: W&B's user or team.
    """
    names = sweep_names(study)
    tags = ", ".join(_quoted(tracking.tag(name)) for name in names)
    dashboard = ws.Workspace(
        entity=entity,
        project=tracking.project(),
        name=f"{_without_symbols(' and '.join(names))}: comparison",
        sections=[
            ws.Section("AP over the grid", panels=_ap_panels(study), is_open=True),
            ws.Section("Losses by grid point", panels=_loss_panels(), is_open=True),
            ws.Section("Report", panels=_report_panels(markdown), is_open=True),
            ws.Section("Side by side", panels=[panels.RunComparer(diff_only="split")]),
        ],
        settings=ws.WorkspaceSettings(x_axis="iteration"),
        runset_settings=ws.RunsetSettings(
            filters=f"Tags in [{tags}]",
            pinned_columns=[
                *(f"config:{axis}.value" for axis in [*study.axes, "seed"]),
                *(f"summary:{metric}" for metric in _METRICS),
            ],
        ),
        auto_generate_panels=False,
    )
    for section in dashboard.sections:  # fixed ids: the same dashboard is the same specification
        for number, panel in enumerate(section.panels):
            identity = f"{section.name}-{number}".lower().replace(" ", "-")
            setattr(panel, "_id", identity)  # noqa: B010 - private, and the only way
    return dashboard


def _quoted(text: str) -> str:
    """A text in a filter, every letter escaped: wandb would take ``=`` or ``<`` for an operator."""
    return "'" + "".join(f"\\U{ord(letter):08x}" for letter in text) + "'"


def _without_symbols(text: str) -> str:
    """A dashboard's name as wandb takes it: with no symbol, such as ``=`` or an emoji."""
    return "".join("-" if unicodedata.category(letter)[0] in "SC" else letter for letter in text)


def _ap_panels(study: Study) -> list[Any]:
    axes = study.axes
    numbers = [axis for axis in axes if pd.api.types.is_numeric_dtype(study.trials[axis])]
    groups: list[tuple[str, Any]] = [(axis, panels.Config(axis)) for axis in axes]
    found: list[Any] = [
        panels.BarPlot(
            title=f"AP by {name}: mean and standard deviation",
            metrics=["AP"],
            orientation="v",
            groupby=key,
            groupby_aggfunc="mean",
            groupby_rangefunc="stddev",
        )
        for name, key in [*groups, ("grid point", "Group")]
    ]
    ap = panels.SummaryMetric("AP")
    found += [
        panels.ScatterPlot(
            title=f"AP against {axis}", x=panels.Config(axis), y=ap, running_ymean=True
        )
        for axis in numbers
    ]
    if len(numbers) > 1:
        x, y = numbers[:2]
        found.append(
            panels.ScatterPlot(
                title=f"AP over {x} x {y}", x=panels.Config(x), y=panels.Config(y), z=ap
            )
        )
    columns = [panels.ParallelCoordinatesPlotColumn(panels.Config(axis)) for axis in axes]
    columns += [panels.ParallelCoordinatesPlotColumn(panels.SummaryMetric(m)) for m in _METRICS]
    return [*found, panels.ParallelCoordinatesPlot(title="Grid and AP", columns=columns)]


def _loss_panels() -> list[Any]:
    return [
        panels.LinePlot(
            title=name,
            x="iteration",
            y=[name],
            groupby="Group",
            groupby_aggfunc="mean",
            groupby_rangefunc="stddev",
            log_y=name.startswith("train/"),
        )
        for name in [*(f"train/{curve}" for curve in _CURVES), "val/AP"]
    ]


def _report_panels(markdown: str) -> list[Any]:
    text = "\n".join(line for line in markdown.splitlines() if not line.startswith("!["))
    charts = [
        panels.CustomChart(
            query={"summaryTable": {"tableKey": f"{_FIGURE_4}/{kind}s_table"}},
            chart_name="wandb/lineseries/v0",
            chart_fields={"step": "step", "lineKey": "lineKey", "lineVal": "lineVal"},
            chart_strings={
                "title": f"Cumulative loss of {kind}s, easiest first",
                "xname": f"fraction of {kind}s",
            },
        )
        for kind in _CDF_KINDS
    ]
    tables = [panels.WeavePanelSummaryTable(table_name=f"tables/{t}") for t in ("cells", "trials")]
    pictures = panels.MediaBrowser(title="Figures", media_keys=["figures/*"], num_columns=2)
    return [panels.MarkdownPanel(markdown=text), *tables, *charts, pictures]


def specification(dashboard: ws.Workspace) -> dict[str, Any]:
    """The dashboard as W&B receives it, as plain data."""
    text = dashboard._to_model().spec.model_dump_json(by_alias=True, exclude_none=True)
    return {"name": dashboard.name, "project": dashboard.project, "spec": json.loads(text)}


def write_specification(study: Study, work_dirs: Sequence[Path], out: Path) -> Path:
    """Write the dashboard's specification into the first sweep's folder, for review."""
    dashboard = workspace(study, (out / README).read_text(), entity="-")
    path = work_dirs[0] / tracking.FOLDER / SPECIFICATION
    path.parent.mkdir(exist_ok=True)
    write_text(path, json.dumps(specification(dashboard), indent=1) + "\n")
    return path


def save(study: Study, work_dirs: Sequence[Path], out: Path) -> str:
    """Save the dashboard on the server, in place of one that was saved earlier.

    Returns:
        Its address.
    """
    api = wandb.Api(timeout=10)
    entity = str(os.environ.get("WANDB_ENTITY") or api.default_entity)
    dashboard = workspace(study, (out / README).read_text(), entity)
    memory = work_dirs[0] / tracking.FOLDER / VIEW
    place = {"server": api.settings["base_url"], "entity": entity, "project": dashboard.project}
    known = read_json(memory) or {}
    if all(known.get(key) == value for key, value in place.items()):
        dashboard._internal_id, dashboard._internal_name = known["id"], known["name"]
    dashboard.save()
    identity = {"id": dashboard._internal_id, "name": dashboard._internal_name}
    write_json(memory, {**place, **identity, "url": dashboard.url})
    return str(dashboard.url)


def publish(work_dirs: Sequence[Path], out: Path, baseline: str | None = None) -> bool:
    """Upload what W&B lacks of some sweeps and their report, and print the outcome.

    With ``WANDB_MODE=offline`` the report's run and the dashboard's specification are written, but
    nothing is uploaded. If the server does not answer, this ends after a limited time.

    Args:
        work_dirs: of the sweeps.
        out: the report's folder.
        baseline: the cell that the report compares with, where that is not the sweeps' own.

    Returns:
        Whether all uploads succeeded.
    """
    work_dirs = [work_dir.resolve() for work_dir in work_dirs]
    study = load_study(work_dirs, baseline)
    report = log_report(study, work_dirs, out)
    print(f"W&B: the dashboard's specification is in {write_specification(study, work_dirs, out)}")
    for line in filter(None, map(lost_runs, work_dirs)):
        print(f"W&B: {line}")
    if os.environ.get("WANDB_MODE") in ("offline", "disabled"):
        print(f"W&B: {len(unsent(work_dirs))} offline runs, nothing sent (WANDB_MODE)")
        return True
    outcome = sync(work_dirs)
    print(f"W&B: {outcome}")
    if report in outcome.failed:
        return False
    problem, answer = _save_elsewhere(work_dirs, out, baseline)
    if problem:
        print(f"W&B: the dashboard was not saved: {answer}")
    else:
        print(f"W&B: the dashboard: {answer}")
        print(f"W&B: the report's markdown and files: {artifact_address(answer, report)}")
    return not problem and not outcome.failed


def artifact_address(dashboard: str, report: str) -> str:
    """Address of the newest report's artifact, from the dashboard's address."""
    return f"{dashboard.partition('?')[0]}/artifacts/{REPORT_TYPE}/{REPORT_TYPE}-{report}"


def _save_elsewhere(work_dirs: Sequence[Path], out: Path, baseline: str | None) -> tuple[bool, str]:
    """Call ``save`` in a process with a time limit; returns whether it failed, and a line."""
    module = [sys.executable, "-m", "ablations.reporting.wandb_dashboard"]
    command = [*module, *map(str, work_dirs), "--report", str(out.resolve())]
    command += ["--baseline", baseline] if baseline is not None else []
    root = str(Path(__file__).parents[2])
    try:
        done = subprocess.run(
            command, cwd=root, capture_output=True, text=True, timeout=SAVE_TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired:
        return True, f"no answer within {SAVE_TIMEOUT:g} s"
    lines = (done.stderr if done.returncode else done.stdout).strip().splitlines()
    return done.returncode != 0, lines[-1] if lines else "no output"


def main() -> None:
    """``python -m ablations.reporting.wandb_dashboard WORK_DIR ... --report OUT``: ``save``."""
    parser = argparse.ArgumentParser(description="Save the dashboard of some sweeps in W&B.")
    parser.add_argument("work_dirs", nargs="+", type=Path)
    parser.add_argument("--report", required=True, type=Path)
    parser.add_argument("--baseline")
    options = parser.parse_args()
    tracking.keep_inside(options.work_dirs[0].resolve())
    study = load_study(options.work_dirs, options.baseline)
    print(save(study, options.work_dirs, options.report))


if __name__ == "__main__":
    main()
