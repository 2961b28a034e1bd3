"""The matrix: its cells, and the page that it writes."""

import json
from pathlib import Path
from typing import Any

import pytest

from environment import matrix
from environment.cells import CELLS, lower_bounds


def test_the_cells_cover_what_was_promised() -> None:
    pairs = {(cell.python, cell.torch, cell.stack) for cell in CELLS}
    assert {cell.python for cell in CELLS} == {"3.10", "3.11", "3.12", "3.13"}
    assert ("3.12", "torch==2.11.0", "openmmlab") in pairs
    assert ("3.13", "torch", "openmmlab") in pairs
    assert any(python == "3.10" and torch == "torch==2.4.0" for python, torch, _ in pairs)
    assert any(stack == "onedl" for *_, stack in pairs)
    assert len({cell.name for cell in CELLS}) == len(CELLS)


def test_the_oldest_cell_is_held_to_the_lower_bounds() -> None:
    listed = ["torch>=2.4", "numpy>=1.26,<3", "wandb-workspaces>=0.4.13,<0.5", "tomli>=2; x"]
    assert lower_bounds(listed) == ("numpy==1.26", "wandb-workspaces==0.4.13")
    oldest = next(cell for cell in CELLS if cell.torch == "torch==2.4.0")
    held = matrix.held(oldest)
    assert "numpy==1.26" in held and "pandas==2.1" in held
    assert not any(line.startswith("torch") for line in held)


JUNIT = """<testsuites><testsuite>
<testcase classname="tests.a.test_b" name="test_good"/>
<testcase classname="tests.a.test_b" name="test_bad[x]"><failure message="no"/></testcase>
<testcase classname="tests.a.test_b" name="test_left"><skipped/></testcase>
<testcase classname="tests.a.test_b" name="test_broken"><error/></testcase>
</testsuite></testsuites>"""


def result(**changes: Any) -> dict[str, Any]:
    found = {"python": "3.10.13", "torch": "2.4.0+cu121", "numpy": "1.26.0"}
    base = {"date": "2026-11-28", "machine": "2 cores", "setup_minutes": 4.0, "versions": found}
    return base | {"test_minutes": 9.0, "passed": 2, "skipped": 1, "failed": []} | changes


def test_a_failed_test_is_counted_and_named(tmp_path: Path) -> None:
    report = tmp_path / "tests.xml"
    report.write_text(JUNIT)
    found = matrix.counted(report)
    assert (found["passed"], found["skipped"]) == (1, 1)
    bad = ["tests/a/test_b.py::test_bad[x]", "tests/a/test_b.py::test_broken"]
    assert found["failed"] == bad
    page = matrix.page({"py310-torch24": result(**found)})
    assert "**does not pass**" in page and all(f"- `{name}`" in page for name in bad)


def test_what_failed_runs_once_more_and_the_page_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matrix, "RESULTS", tmp_path / "c.json")
    monkeypatch.setattr(matrix, "PAGE", tmp_path / "c.md")
    bad = ["tests/x.py::test_slow", "tests/x.py::test_wrong"]
    (tmp_path / "c.json").write_text(json.dumps({"py313-newest": result(failed=bad)}))
    asked = []

    def tested(folder: Path, tests: list[str], name: str = "tests") -> dict[str, Any]:
        asked.append(tests)
        return {"passed": 1, "skipped": 0, "failed": bad[1:]}

    monkeypatch.setattr(matrix, "tested", tested)
    assert matrix.main(["py313-newest", "--failed"]) == 1
    assert asked[0][-2:] == bad
    page = (tmp_path / "c.md").read_text()
    assert "3 passed, 1 skipped, 1 of them only at a second run, **1 failed**" in page
    assert "only when it was run again\n\n- `tests/x.py::test_slow`" in page


def test_results_of_other_cells_stay_on_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matrix, "RESULTS", tmp_path / "c.json")
    monkeypatch.setattr(matrix, "PAGE", tmp_path / "c.md")
    earlier = {"py310-torch24": result(), "py313-newest": result(failed=["tests/x.py::test_y"])}
    (tmp_path / "c.json").write_text(json.dumps(earlier))
    monkeypatch.setattr(matrix, "run", lambda cell, tests: result(passed=7))
    assert matrix.main(["py313-newest"]) == 0
    page = (tmp_path / "c.md").read_text()
    assert "py310-torch24" in page and "7 passed" in page and "test_y" not in page
    monkeypatch.setattr(matrix, "run", lambda cell, tests: result(problem="the set-up failed"))
    assert matrix.main(["py313-newest"]) == 1
    assert "the set-up failed" in (tmp_path / "c.md").read_text()


def test_an_unknown_cell_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert matrix.main(["py299"]) == 2
    error = capsys.readouterr().err
    assert "py299" in error and "py310-torch24" in error and error.count("\n") == 1


def test_a_python_that_is_not_here_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matrix, "find_python", lambda version: None)
    assert "not on this machine" in matrix.run(CELLS[0], [])["problem"]
