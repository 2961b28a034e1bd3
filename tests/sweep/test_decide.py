"""``sweep --decide``: rounds of seeds until the question is answered, whatever happens between."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ablations.commands import sweep
from ablations.store.files import read_json, write_json
from ablations.store.manifest import read_manifest
from ablations.store.states import sweep_states
from ablations.sweep import cli
from tests.helpers import decided_trial
from tests.helpers.decided_trial import GRID, InlineLauncher

EFFECTS = {"FL": 2.0, "gamma=2 alpha=0.25": 1.95, "gamma=1 alpha=0.25": 0.3}
FLAGS = ("--grid", "grid.py", "--work-dir", "work", "--no-report", "--wandb", "disabled")
BEST = (*FLAGS, "--decide", "best", "--margin", "1", "--max-seeds", "8")
CELLS = 6

Command = Callable[..., InlineLauncher]


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs ``sweep`` with some flags here; checks its exit status and returns its launcher."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "grid.py").write_text(GRID)
    write_json(tmp_path / "fates.json", {"effects": EFFECTS})
    for name in ("TRAINING", "preflight", "preflight_without_torch"):
        monkeypatch.setattr(sweep, name, getattr(sweep, name))
    monkeypatch.setattr(sweep.deciding(), "next_round_command", None)
    decided_trial.prepare([])

    def run(*flags: str, status: int = 0, stop_after: int | None = None) -> InlineLauncher:
        launcher = InlineLauncher(stop_after)
        monkeypatch.setattr(cli, "make_launcher", lambda *_: launcher)
        monkeypatch.setattr("sys.argv", ["sweep.py", *flags])
        assert sweep.main(list(flags)) == status
        return launcher

    return run


def verdicts(work: Path = Path("work")) -> dict[str, str]:
    manifest, states = sweep_states(work)
    found = sweep.deciding().decided(manifest, states)
    return {cell.label: cell.verdict for cell in found.cells}


def test_rounds_until_the_best_is_known(command: Command, capsys: pytest.CaptureFixture) -> None:
    ran = command(*BEST).ran
    assert len(ran[0]) == 2 * CELLS
    assert all(ran[i + 1] for i in range(len(ran) - 1))
    assert verdicts()["FL"] == "leader"
    assert verdicts()["gamma=2 alpha=0.25"] == "within the margin"
    assert verdicts()["CE"] == "out"
    total = sum(map(len, ran))
    assert total < 8 * CELLS
    out = capsys.readouterr().out
    assert "over: every question has an answer; out: CE" in out
    assert "next: 12 trials of 6 cells up to 2 seeds (every cell gets its first seeds)" in out
    assert f"{total} finished" in out

    manifest = read_manifest(Path("work"))
    assert manifest is not None and manifest.decide is not None
    assert [look["seeds"] for look in manifest.decide["looks"]] == [2, 3, 5, 7, 8]
    assert manifest.decide["cells"][:2] == ["CE", "FL"]
    assert len(manifest.trials) == total
    assert len(manifest.commands) == 1  # not one a round
    assert command(*BEST).ran == []  # nothing is left


def test_an_interrupted_sweep_goes_on_to_the_same_trials(command: Command) -> None:
    whole = command(*BEST, "--work-dir", "whole").ran
    first = command(*BEST, status=130, stop_after=15)
    later = command(*BEST)
    both = [trial for part in (*first.ran, *later.ran) for trial in part]
    assert sorted(both) == sorted(trial for part in whole for trial in part)
    assert verdicts() == verdicts(Path("whole"))


def test_each_cell_against_the_baseline(command: Command) -> None:
    command(*FLAGS, "--decide", "baseline", "--margin", "0.5", "--max-seeds", "10")
    found = verdicts()
    assert found["CE"] == "baseline"
    assert found["FL"] == found["gamma=2 alpha=0.25"] == "better"
    assert found["gamma=1 alpha=0.75"] == "within the margin"


def test_diverged_is_out_and_failed_is_missing(
    command: Command, capsys: pytest.CaptureFixture
) -> None:
    fates = {"FL 0": "diverged", "gamma=2 alpha=0.25 1": "failed"}
    write_json(Path("fates.json"), {"effects": EFFECTS, "fates": fates})
    command(*BEST, status=1)
    assert verdicts()["FL"] == "diverged"
    assert verdicts()["gamma=2 alpha=0.25"] == "leader"
    assert "--retry-failed runs failed trials again" in capsys.readouterr().err
    assert not [t for t in sweep_states(Path("work"))[1] if t.entry.label == "FL"][2:]
    write_json(Path("fates.json"), {"effects": EFFECTS})
    again = command(*BEST, "--retry-failed")
    assert again.ran[0] == ["gamma=2 alpha=0.25 1"]


def test_a_dry_run_says_what_comes_next_why_and_what_it_costs(
    command: Command, capsys: pytest.CaptureFixture
) -> None:
    command(*BEST, "--dry-run")
    out = capsys.readouterr().out
    assert "next: 12 trials of 6 cells up to 2 seeds" in out
    assert "to the end: 12 trials" in out
    assert not Path("work").exists()
    command(*BEST, status=130, stop_after=12)
    capsys.readouterr()
    command(*BEST, "--dry-run")
    out = capsys.readouterr().out
    assert "up to 3 seeds (open: " in out
    assert "by simulation with the means and the noise so far" in out
    assert "device-hours" in out.splitlines()[-1]
    command(*BEST, "--dry-run", "--json")
    planned = json.loads(capsys.readouterr().out)
    assert {trial["state"] for trial in planned["trials"]} == {"finished", "pending"}


def test_a_margin_too_small_for_the_seeds_is_said_after_two(
    command: Command, capsys: pytest.CaptureFixture
) -> None:
    flags = (*FLAGS, "--decide", "baseline", "--margin", "0.01", "--max-seeds", "3")
    command(*flags, status=130, stop_after=2 * CELLS)
    out = capsys.readouterr().out
    assert "--margin 0.01 cannot be resolved with 3 seeds" in out
    assert "it would take" in out
    assert out.index("cannot be resolved") > out.index("next: 12 trials")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("--margin", "0.2"), "decide.margin: 1.0 -> 0.2"),
        (("--decide", "baseline"), "decide.question: 'best' -> 'baseline'"),
        (("--max-seeds", "9"), "decide.seeds"),
        (("--only", "!gamma=1"), "decide.cells"),
    ],
)
def test_what_was_declared_is_binding(
    command: Command, capsys: pytest.CaptureFixture, change: tuple[str, ...], message: str
) -> None:
    command(*BEST, status=130, stop_after=3)
    command(*BEST, *change, status=2)
    assert message in capsys.readouterr().err


def test_a_sweep_is_sequential_or_not(command: Command, capsys: pytest.CaptureFixture) -> None:
    command(*BEST, status=130, stop_after=3)
    command(*FLAGS, status=2)
    assert "it was begun with --decide" in capsys.readouterr().err
    command(*FLAGS, "--work-dir", "fixed")
    assert "decide" not in read_json(Path("fixed/manifest.json"))
    command(*BEST, "--work-dir", "fixed", status=2)
    assert "it was begun without --decide" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--decide", "worst"), "invalid choice: 'worst'"),
        (("--margin", "1"), "--margin and --max-seeds go with --decide"),
        (("--decide", "best", "--max-seeds", "1"), "--max-seeds is 1; it must be at least 2"),
        (("--decide", "best", "--margin", "0"), "--margin is 0; it must be above 0"),
        (("--decide", "best", "--margin", "nan"), "--margin is nan"),
        (("--decide", "best", "--seeds", "1", "2"), "--seeds names 2, --max-seeds is 10"),
        (("--decide", "best", "--only", "loss=CE"), "there is only CE"),
        (("--decide", "baseline", "--only", "!loss=CE"), "the baseline CE is not among them"),
        (("--only", "gama=2"), "no axis 'gama'; valid: loss, gamma, alpha"),
        (("--only", "gamma=3"), "no cell has that value; valid: 1, 2"),
        (("--only", "gamma"), "--only takes AXIS=VALUE or '!AXIS=VALUE', not 'gamma'"),
        (("--only", "gamma=1", "loss=CE"), "no cell is left"),
    ],
)
def test_bad_usage_is_one_line(
    command: Command, capsys: pytest.CaptureFixture, flags: tuple[str, ...], message: str
) -> None:
    try:
        command(*FLAGS, *flags, status=2)
    except SystemExit as error:
        assert error.code == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert not Path("work").exists()
