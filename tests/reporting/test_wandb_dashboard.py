"""The report and its dashboard in W&B: made without a server, and saved on one."""

import shutil
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
import wandb

from ablations.analysis.study import load_study
from ablations.commands import report
from ablations.reporting import wandb_dashboard
from ablations.reporting.report import write_report
from ablations.reporting.wandb_dashboard import publish, save, specification, workspace
from ablations.store.files import read_json, write_json
from ablations.store.manifest import MANIFEST as MANIFEST_FILE
from tests.helpers.fabricated import Plan, fabricate
from tests.helpers.wandb_reader import newest, records, rows, summary
from tests.helpers.wandb_stub import ENTITY, KEY, MANIFEST, Stub, StubArtifact

SMALL = [{"loss": "CE"}, {"gamma": 2.0, "alpha": 0.25}, {"gamma": 2.0, "alpha": 0.5}]


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove W&B settings from the environment, before and after."""
    for name in (
        *("DATA_DIR", "CACHE_DIR", "CONFIG_DIR", "SILENT", "MODE", "SERVICE", "PROJECT"),
        *("ENTITY", "BASE_URL", "API_KEY"),
    ):
        monkeypatch.setenv(f"WANDB_{name}", "")
        monkeypatch.delenv(f"WANDB_{name}")


@pytest.fixture(scope="module")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    work_dir = fabricate(folder / "digits", Plan(points=SMALL, seeds=(0, 1)))
    write_report([work_dir], folder / "report")
    return folder


@pytest.fixture
def sweep(tmp_path: Path, made_once: Path) -> tuple[Path, Path]:
    """A sweep's work directory and its report's folder."""
    folder = tmp_path / "sweep"
    shutil.copytree(made_once, folder)
    return folder / "digits", folder / "report"


def use(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in stub.environment.items():
        monkeypatch.setenv(name, value)


def of_type(spec: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    sections = spec["spec"]["section"]["panelBankConfig"]["sections"]
    found = [panel for section in sections for panel in section["panels"]]
    return [panel["config"] for panel in found if panel["viewType"] == kind]


def test_the_dashboard_compares_the_grid(sweep: tuple[Path, Path]) -> None:
    study = load_study([sweep[0]])
    spec = specification(workspace(study, "# the report\n![a](figures/a.png)\n| AP |", "me"))
    by_gamma = next(bar for bar in of_type(spec, "Bar Chart") if bar["groupBy"] == "gamma.value")
    assert (by_gamma["metrics"], by_gamma["groupAgg"], by_gamma["groupArea"]) == (
        ["AP"],
        "mean",
        "stddev",
    )
    over = next(plot for plot in of_type(spec, "Scatter Plot") if "zAxis" in plot)
    assert (over["xAxis"], over["yAxis"]) == ("config:gamma.value", "config:alpha.value")
    assert over["zAxis"] == "summary:AP"
    (parallel,) = of_type(spec, "Parallel Coordinates Plot")
    columns = [column["accessor"] for column in parallel["columns"]]
    assert {"config:gamma.value", "config:alpha.value", "summary:AP"} <= set(columns)
    curves = {plot["metrics"][0]: plot for plot in of_type(spec, "Run History Line Plot")}
    assert curves["train/loss_cls_positive"]["groupBy"] == "group"
    assert curves["train/loss_cls_positive"]["xAxis"] == "iteration"
    assert len(of_type(spec, "Run Comparer")) == 1
    (text,) = of_type(spec, "Markdown Panel")
    assert text["value"] == "# the report\n| AP |"  # W&B cannot show the report's own files
    (runs,) = spec["spec"]["section"]["runSets"]
    assert runs["filters"]["filters"][0]["value"] == ["digits"]


@pytest.mark.parametrize("name", ["lr=0.1", "it's", "a<=b and c", 'say "x"', "back\\slash", "ü 😀"])
def test_a_sweep_of_any_name_is_filtered_by_it(sweep: tuple[Path, Path], name: str) -> None:
    work_dir = sweep[0]
    manifest = read_json(work_dir / MANIFEST_FILE)
    write_json(work_dir / MANIFEST_FILE, manifest | {"sweep": name})
    spec = specification(workspace(load_study([work_dir]), "", "me"))
    (runs,) = spec["spec"]["section"]["runSets"]
    assert runs["filters"]["filters"][0]["value"] == [name]
    assert spec["name"].endswith(": comparison")


def test_two_sweeps_have_a_dashboard_too(sweep: tuple[Path, Path]) -> None:
    """wandb takes no ``+`` in its name."""
    work_dir = sweep[0]
    other = work_dir.parent / "other"
    shutil.copytree(work_dir, other)
    write_json(other / MANIFEST_FILE, read_json(other / MANIFEST_FILE) | {"sweep": "other"})
    spec = specification(workspace(load_study([work_dir, other]), "", "me"))
    assert spec["name"] == "digits and other: comparison"
    (runs,) = spec["spec"]["section"]["runSets"]
    assert runs["filters"]["filters"][0]["value"] == ["digits", "other"]


def test_without_a_server_there_is_a_run_and_a_specification(
    sweep: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, alone: None
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    work_dir, out = sweep
    assert publish([work_dir], out)
    first = (work_dir / "wandb" / "workspace.json").read_bytes()
    assert publish([work_dir], out)
    assert (work_dir / "wandb" / "workspace.json").read_bytes() == first
    (file,) = work_dir.glob("wandb/offline-run-*/*.wandb")  # the second in place of the first
    begun = records(file, "run")[0]
    assert begun["run_id"] == "digits" and begun["job_type"] == "report"
    (row,) = rows(file)
    assert row["tables/cells._type"] == "table-file" and row["tables/cells.nrows"] == 3
    assert row["tables/trials.nrows"] == 6
    assert row["figures/figure_4_loss_cdfs._type"] == "image-file"
    assert row["figure_4/positives_table.nrows"] > 1000
    assert "report-digits" in [artifact["name"] for artifact in records(file, "artifact")]


def test_the_run_compares_with_the_baseline_of_the_command(
    sweep: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, alone: None
) -> None:
    work_dir, out = sweep
    monkeypatch.setenv("WANDB_MODE", "offline")
    chosen = "gamma=2 alpha=0.5"
    assert report.main([str(work_dir), "--out", str(out), "--baseline", chosen, "--wandb"]) == 0
    assert summary(newest(work_dir))["config"]["baseline"] == chosen
    assert f"AP minus that of {chosen}" in (out / "README.md").read_text()


def test_saved_twice_it_is_one_view(
    sweep: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, alone: None
) -> None:
    work_dir, out = sweep
    study = load_study([work_dir])
    (work_dir / "wandb").mkdir()
    with Stub() as stub:
        use(stub, monkeypatch)
        first = save(study, [work_dir], out)
        assert save(study, [work_dir], out) == first
        assert stub.asked.count("UpsertView2") == 2
        (view,) = stub.views.values()
        assert view["displayName"] == "digits: comparison"
        wandb.teardown()  # what this process knows of the stub
    with Stub() as stub:  # another server has another view
        use(stub, monkeypatch)
        save(study, [work_dir], out)
        assert len(stub.views) == 1 and "id" not in stub.views["view-1"]
        wandb.teardown()


def reports(stub: Stub) -> list[StubArtifact]:
    """The reports that the service has completely."""
    found = stub.artifacts.values()
    return [each for each in found if each.name == "report-digits" and each.committed]


@pytest.mark.wandb
def test_published_twice_it_is_one_run_one_view_and_the_report_byte_for_byte(
    sweep: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    alone: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    work_dir, out = sweep
    with Stub() as stub:
        use(stub, monkeypatch)
        assert publish([work_dir], out)
        assert publish([work_dir], out)
        assert len(stub.views) == 1
        assert stub.unknown == []
        assert len(stub.runs["digits"].rows) == 1
        assert stub.runs["digits"].fields["jobType"] == "report"
        sent = reports(stub)[-1].files
    sent.pop(MANIFEST)
    written = {p.relative_to(out).as_posix(): p for p in out.rglob("*") if p.is_file()}
    assert sent == {name: path.read_bytes() for name, path in written.items()}
    assert {"README.md", "report.html"} <= set(sent)
    project = f"{stub.url}/{ENTITY}/loss-ablations"
    assert f"files: {project}/artifacts/report/report-digits\n" in capsys.readouterr().out
    kept = b"".join(p.read_bytes() for f in sweep for p in f.rglob("*") if p.is_file())
    assert KEY.encode() not in kept and b64encode(f"api:{KEY}".encode()) not in kept


@pytest.mark.wandb
def test_a_report_that_was_not_taken_is_told_and_sent_the_next_time(
    sweep: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    alone: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    work_dir, out = sweep
    with Stub(mode="full") as stub:  # which wandb reports in its log alone
        use(stub, monkeypatch)
        assert not publish([work_dir], out)
        assert "1 not sent (digits: " in capsys.readouterr().out
        assert reports(stub) == []
        stub.mode = "working"
        assert publish([work_dir], out)
        assert len(reports(stub)) == 1


def test_a_server_that_takes_nothing_is_told_in_one_line(
    sweep: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    alone: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    work_dir, out = sweep
    monkeypatch.setattr(wandb_dashboard, "SAVE_TIMEOUT", 5.0)
    with Stub(mode="refusing") as stub:
        use(stub, monkeypatch)
        assert not publish([work_dir], out)
        assert "UpsertView2" not in stub.asked
    assert "1 not sent (digits: invalid API key)" in capsys.readouterr().out
