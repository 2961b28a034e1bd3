"""An upload goes on while runs arrive and ends in silence; what is missing is told at the end."""

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from ablations.commands.sweep import upload
from ablations.reporting import wandb_sync
from ablations.reporting.wandb_sync import Part, lost_runs, sync
from ablations.store.files import write_json
from ablations.store.manifest import trial_folder
from ablations.store.record import RECORD, Record, write_record
from ablations.store.status import STATUS

Answer = Callable[[Sequence[Part]], list[str]]


@pytest.fixture
def seventeen(tmp_path: Path) -> Path:
    """A finished sweep of 17 trials, each with an offline run."""
    for number in range(17):
        folder = trial_folder(tmp_path, f"{number:012}")
        run = folder / "wandb" / "offline-run-20260101_000000-s" / f"run-s-{number}.wandb"
        run.parent.mkdir(parents=True)
        run.touch()
        write_json(folder / RECORD, {})
    return tmp_path


def serve(monkeypatch: pytest.MonkeyPatch, answer: Answer) -> list[int]:
    """Let ``answer`` stand for wandb; returns the sizes of the batches that it is asked for."""
    asked: list[int] = []

    def run(batch: Sequence[Part], ended: bool) -> list[str]:
        asked.append(len(batch))
        return answer(batch)

    monkeypatch.setattr(wandb_sync, "_run_wandb", run)
    return asked


def silence(batch: Sequence[Part]) -> list[str]:
    return ["Timed out while retrying"]


def test_runs_that_a_busy_machine_could_not_send_are_sent_in_the_same_call(
    seventeen: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def three_of_them(batch: Sequence[Part]) -> list[str]:
        for part in batch[:3]:
            part.marker.touch()
        return ["Timed out while retrying"] if len(batch) > 3 else []

    serve(monkeypatch, three_of_them)
    outcome = sync([seventeen])
    assert len(outcome.sent) == len(set(outcome.sent)) == 17 and outcome.failed == {}
    assert sync([seventeen]).sent == []


def test_a_silent_server_is_asked_once(seventeen: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = serve(monkeypatch, silence)
    outcome = sync([seventeen])
    assert asked == [wandb_sync.AT_A_TIME]
    assert set(outcome.failed.values()) == {"Timed out while retrying"}
    assert len(outcome.failed) == 17 and outcome.sent == []


def test_a_run_that_cannot_be_sent_stops_no_other_and_ends(
    seventeen: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def all_but_the_first(batch: Sequence[Part]) -> list[str]:
        errors = []
        for part in batch:
            if part.run_id in ("s-0", "s-1"):
                errors.append(f"[p/{part.run_id}] the file is damaged")
            else:
                part.marker.touch()
        return errors

    asked = serve(monkeypatch, all_but_the_first)
    outcome = sync([seventeen])
    assert len(outcome.sent) == 15
    assert sorted(outcome.failed) == ["s-0", "s-1"]
    assert asked == [8, 8, 1, 2]


def test_a_full_disk_is_a_reason_and_no_traceback(
    seventeen: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wandb_sync.tempfile, "tempdir", str(seventeen / "nowhere"))
    assert "wandb cannot be run" in next(iter(sync([seventeen]).failed.values()))


def sleeper(seconds: float) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", f"import time; time.sleep({seconds})"]
    return subprocess.Popen(command, start_new_session=True)


def test_a_process_has_time_while_there_are_signs_and_no_longer() -> None:
    start = time.monotonic()
    assert wandb_sync._ends(sleeper(2.5), lambda: time.monotonic() // 0.5, silence=1.2)
    assert time.monotonic() - start >= 2.5
    process, start = sleeper(60), time.monotonic()
    assert not wandb_sync._ends(process, lambda: "the same", silence=1.2)
    assert time.monotonic() - start < 10 and process.returncode is not None


def test_trials_without_a_run_are_counted_with_a_reason(
    seventeen: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    serve(monkeypatch, silence)
    assert lost_runs(seventeen) == ""
    for name in ("begun", "reused", "waits"):
        trial_folder(seventeen, name).mkdir()
    write_json(trial_folder(seventeen, "begun") / STATUS, {"state": "training"})
    reused = Record("reused", "s", {}, "x", 0, "finished", taken_from={"sweep": "other"})
    write_record(trial_folder(seventeen, "reused"), reused)
    assert lost_runs(seventeen) == "of 18 trials 1 have no run"
    (trial_folder(seventeen, "begun") / "wandb").mkdir()
    (trial_folder(seventeen, "begun") / "wandb" / "problem.txt").write_text("UsageError: no")
    (trial_folder(seventeen, f"{3:012}") / "wandb" / "problem.txt").write_text("OSError: full")
    expected = "of 18 trials 1 have no run and the runs of 1 are not complete (UsageError: no)"
    assert lost_runs(seventeen) == expected
    upload(seventeen, seventeen / "report", online=False)
    assert f"W&B: {expected}\n" in capsys.readouterr().out
