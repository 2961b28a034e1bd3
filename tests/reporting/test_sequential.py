"""What a report says of a sequential sweep, and that it says nothing of it for a fixed design."""

from dataclasses import replace
from pathlib import Path

import pytest

from ablations.analysis.decisions import design
from ablations.analysis.study import load_study
from ablations.reporting.figures.writer import FigureWriter
from ablations.reporting.page.write import _warnings
from ablations.reporting.sections.cells import all_cells
from ablations.reporting.sections.sequential import sequential
from ablations.reporting.sections.summary import summary
from ablations.store.manifest import read_manifest, trial_folder, write_manifest
from tests.helpers.fabricated import Plan, fabricate

POINTS = [{"loss": "CE"}, {"loss": "A"}, {"loss": "B"}, {"loss": "C"}]
EFFECTS = {"A": 3.0, "B": 2.9, "C": -4.0}


@pytest.fixture
def decided(tmp_path: Path) -> Path:
    """A sequential sweep of four cells: CE and C have three seeds, A and B five."""
    plan = Plan(points=POINTS, seeds=(0, 1, 2, 3, 4), effects=EFFECTS, noise=0.05, files=False)
    return make_sequential(fabricate(tmp_path / "decided", plan))


def make_sequential(work_dir: Path) -> Path:
    manifest = read_manifest(work_dir)
    assert manifest is not None
    labels = [point["loss"] for point in POINTS]
    asked = design("best", 0.05, 5, labels, None)
    kept = [t for t in manifest.trials if t.seed < 3 or t.label in ("A", "B")]
    write_manifest(work_dir, replace(manifest, trials=kept, decide=asked.as_json()))
    return work_dir


def test_the_design_its_looks_and_the_level_are_stated(decided: Path, tmp_path: Path) -> None:
    study = load_study([decided])
    figures = FigureWriter(tmp_path / "figures")
    section = sequential(study, figures)
    assert "looks when all open cells have 2 (0.32 %), 3 (0.76 %), 5 (3.9 %) seeds" in section.text
    assert "Looks taken at 2, 3, 5 seeds; 5 % of the level is spent" in section.text
    [table] = section.tables
    rows = {row["cell"]: row for row in table.text.to_dict("records")}
    assert rows["C"]["verdict"] == rows["CE"]["verdict"] == "out"
    assert rows["C"]["seeds"] == "2 (fewer)"
    assert {rows["A"]["verdict"], rows["B"]["verdict"]} <= {"leader", "open", "out"}
    assert rows["A"]["seeds"] == "5"
    assert float(rows["C"]["difference"].split()[0]) == pytest.approx(-7.0, abs=0.2)
    data = table.data.set_index("label")
    assert (data["low"] < data["difference"])[["CE", "C"]].all()
    assert "**A sequential design.**" in summary(study, figures).text
    cells = next(t for t in all_cells(study, figures).tables if t.name == "cells")
    assert dict(zip(cells.text["cell"], cells.text["seeds"], strict=True))["C"] == "3/3 (fewer)"
    assert any("A sequential design." in line for line in _warnings(study))


def test_a_fixed_design_has_no_such_section(tmp_path: Path) -> None:
    work_dir = fabricate(tmp_path / "fixed", Plan(points=POINTS, files=False))
    study = load_study([work_dir])
    figures = FigureWriter(tmp_path / "figures")
    assert sequential(study, figures).text == ""
    assert "equential" not in summary(study, figures).text
    cells = next(t for t in all_cells(study, figures).tables if t.name == "cells")
    assert set(cells.text["seeds"]) == {"3/3"}


def test_a_sequential_sweep_is_not_merged(decided: Path, tmp_path: Path) -> None:
    other = fabricate(tmp_path / "other", Plan(points=POINTS, seeds=(7,), files=False))
    with pytest.raises(ValueError, match="decided: a sweep with --decide is reported by itself"):
        load_study([decided, other])


def test_a_round_that_is_not_complete_leaves_its_cells_open(decided: Path) -> None:
    manifest = read_manifest(decided)
    assert manifest is not None
    [last] = [t for t in manifest.trials if (t.label, t.seed) == ("A", 4)]
    (trial_folder(decided, last.id) / "record.json").unlink()
    study = load_study([decided])
    assert study.decided is not None
    assert study.decided.todo == [("A", 4)]
    assert "**Not over**: the next look is at 5 seeds" in sequential(study, None).text  # type: ignore[arg-type]


def test_some_cells_alone(decided: Path, tmp_path: Path) -> None:
    study = load_study([decided], only=["!loss=C"])
    assert study.labels == ["CE", "A", "B"]
    figures = FigureWriter(tmp_path / "figures")
    assert "3 of 4, chosen by `--only !loss=C`" in summary(study, figures).text
    # The verdicts are those of the whole design.
    rows = sequential(study, figures).tables[0].data.set_index("label")
    whole = sequential(load_study([decided]), figures).tables[0].data.set_index("label")
    assert rows["p"].equals(whole.loc[rows.index, "p"])
    with pytest.raises(ValueError, match="valid: CE, A, B, C"):
        load_study([decided], only=["loss=D"])
