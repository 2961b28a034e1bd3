"""``status``: some cells, a trial's log, and what is known of a sequential sweep."""

from pathlib import Path

import pytest

from ablations.commands.status import main
from ablations.store.manifest import read_manifest, trial_folder
from tests.helpers.fabricated import Plan, fabricate
from tests.reporting.test_sequential import EFFECTS, POINTS, make_sequential


@pytest.fixture
def work_dir(tmp_path: Path) -> Path:
    plan = Plan(points=POINTS, seeds=(0, 1, 2, 3, 4), effects=EFFECTS, noise=0.05, files=False)
    return fabricate(tmp_path / "work", plan)


def test_which_cells_are_out_since_which_seed_at_what_p(
    work_dir: Path, capsys: pytest.CaptureFixture
) -> None:
    main([str(work_dir)])
    assert "decides" not in capsys.readouterr().out
    assert main([str(make_sequential(work_dir))]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("decides: best, margin 0.05 AP, at most 5 seeds") for line in lines)
    [row] = [line for line in lines if line.startswith("C ")]
    assert row.split()[:5] == ["C", "2", "out", "seed", "2"]
    assert "over: " in lines[-1]


def test_some_cells_alone(work_dir: Path, capsys: pytest.CaptureFixture) -> None:
    assert main([str(work_dir), "--only", "loss=A", "loss=B"]) == 0
    out = capsys.readouterr().out
    assert "10 finished" in out and " CE " not in out
    assert main([str(work_dir), "--only", "loss=D"]) == 2
    assert "no cell has that value; valid: CE, A, B, C" in capsys.readouterr().err


def test_a_trials_log(work_dir: Path, capsys: pytest.CaptureFixture) -> None:
    manifest = read_manifest(work_dir)
    assert manifest is not None
    first, second = (manifest.trials[index].id for index in (0, 5))
    (trial_folder(work_dir, first) / "log.txt").write_text("loss 0.5\n")
    assert main([str(work_dir), first, "--log"]) == 0
    assert capsys.readouterr().out == "loss 0.5\n"
    for trial, message in (
        (second, "has not written a log yet"),
        ("zzz", "no trial's id begins with 'zzz'; valid: "),
        (first[:2], "trials' ids begin with"),
    ):
        assert main([str(work_dir), trial, "--log"]) == 2
        [line] = capsys.readouterr().err.splitlines()
        assert message in line


@pytest.mark.parametrize("flags", [("--log",), ("abc",), ("abc", "--log", "--cancel")])
def test_a_log_takes_one_trial(flags: tuple[str, ...], work_dir: Path) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([str(work_dir), *flags])
