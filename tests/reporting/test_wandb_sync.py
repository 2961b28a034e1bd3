"""Uploading offline runs with the real client to a service on the loopback interface."""

import json
import os
import time
from pathlib import Path

import pytest
import wandb

from ablations.reporting.wandb_sync import TIMEOUT, TIMEOUT_PER_RUN, parts, sync, unsent
from ablations.store.manifest import trial_folder
from ablations.store.record import RECORD
from ablations.store.wandb_names import OFFLINE_SETTINGS, keep_inside, run_id
from tests.helpers.wandb_stub import Stub

SWEEP = "gamma_alpha"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the client of this process give up soon."""
    for name in ("DATA_DIR", "CACHE_DIR", "CONFIG_DIR", "MODE", "SERVICE", "PROJECT"):
        monkeypatch.setenv(f"WANDB_{name}", "")
        monkeypatch.delenv(f"WANDB_{name}")
    for part in ("GRAPHQL", "FILE_STREAM", "FILE_TRANSFER"):
        monkeypatch.setenv(f"WANDB_X_{part}_RETRY_MAX", "1")
        monkeypatch.setenv(f"WANDB_X_{part}_RETRY_WAIT_MAX_SECONDS", "1")
        monkeypatch.setenv(f"WANDB_X_{part}_TIMEOUT_SECONDS", "5")


def use(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in stub.environment.items():
        monkeypatch.setenv(name, value)


def write_run(work_dir: Path, trial: str, last: int = 50, ended: bool = True) -> Path:
    """A trial's offline run with a row every ten iterations; returns its file."""
    folder = trial_folder(work_dir, trial)
    file = write(folder, run_id(SWEEP, trial), last)
    if ended:
        (folder / RECORD).write_text("{}")
    return file


def write(folder: Path, identity: str, last: int) -> Path:
    """An offline run in a folder; returns its file."""
    folder.mkdir(parents=True, exist_ok=True)
    keep_inside(folder)
    run = wandb.init(
        mode="offline",
        project="loss-ablations",
        id=identity,
        group="gamma=2 alpha=0.25",
        job_type="trial",
        tags=[SWEEP],
        config={"gamma": 2.0, "alpha": 0.25},
        dir=folder,
        settings=wandb.Settings(**OFFLINE_SETTINGS),
    )
    for step in range(10, last + 1, 10):
        run.log({"iteration": step, "train/loss": 1.0 / step}, step=step)
    run.summary["AP"] = 41.0
    run.finish()
    wandb.teardown()
    return sorted(folder.glob("wandb/offline-run-*/*.wandb"))[-1]


def tear(file: Path) -> None:
    """Cut the file off, as a killed process leaves it."""
    file.write_bytes(file.read_bytes()[:-150])


def test_all_is_delivered_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: None
) -> None:
    for trial in ("aaaaaaaaaaaa", "bbbbbbbbbbbb"):
        write_run(tmp_path, trial)
    with Stub() as stub:
        use(stub, monkeypatch)
        outcome = sync([tmp_path])
        assert outcome.failed == {}
        assert sorted(outcome.sent) == ["gamma_alpha-aaaaaaaaaaaa", "gamma_alpha-bbbbbbbbbbbb"]
        run = stub.runs["gamma_alpha-bbbbbbbbbbbb"]
        assert [row["iteration"] for row in run.rows] == [10, 20, 30, 40, 50]
        assert [row["train/loss"] for row in run.rows] == [1 / step for step in range(10, 51, 10)]
        assert run.config["gamma"] == 2 and run.config["alpha"] == 0.25
        assert run.fields["groupName"] == "gamma=2 alpha=0.25"
        assert run.fields["jobType"] == "trial" and run.fields["tags"] == [SWEEP]
        assert run.summary["AP"] == 41.0 and run.exit_code == 0
        stub.asked.clear()
        again = sync([tmp_path])
        assert (again.sent, again.partly, again.failed) == ([], [], {})
        assert stub.asked == []
        assert stub.unknown == []


def test_a_killed_attempt_is_sent_as_far_as_it_is_and_its_successor_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: None
) -> None:
    trial = "aaaaaaaaaaaa"
    tear(write_run(tmp_path, trial, last=30, ended=False))
    with Stub() as stub:
        use(stub, monkeypatch)
        outcome = sync([tmp_path])
        assert outcome.partly == [run_id(SWEEP, trial)] and outcome.failed == {}
        run = stub.runs[run_id(SWEEP, trial)]
        assert [row["iteration"] for row in run.rows] == [10, 20]  # the third was torn off
        assert run.exit_code is None  # it goes on
        assert len(unsent([tmp_path])) == 1
        time.sleep(1.1)  # wandb names its folders by the second
        write_run(tmp_path, trial, last=60)  # the next attempt writes it all again
        assert sync([tmp_path]).sent == [run_id(SWEEP, trial)]
        assert [row["iteration"] for row in run.rows] == [10, 20, 30, 40, 50, 60]
        assert run.exit_code == 0
        assert unsent([tmp_path]) == []


def test_a_torn_run_of_a_finished_trial_is_told_and_spares_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: None
) -> None:
    work_dir = tmp_path / SWEEP  # the report's run is named as the sweep is, which is in all paths
    tear(write_run(work_dir, "aaaaaaaaaaaa"))
    write_run(work_dir, "bbbbbbbbbbbb")
    write(work_dir, SWEEP, last=10)
    with Stub() as stub:
        use(stub, monkeypatch)
        outcome = sync([work_dir])
    assert sorted(outcome.sent) == [SWEEP, "gamma_alpha-bbbbbbbbbbbb"]
    assert "incomplete" in outcome.failed["gamma_alpha-aaaaaaaaaaaa"]


@pytest.mark.parametrize(
    "trouble",
    [
        "closed",
        "dying",
        "refusing",
        pytest.param("hanging", marks=pytest.mark.wandb),
        pytest.param("unavailable", marks=pytest.mark.wandb),
    ],
)
def test_what_the_server_does_not_take_is_told_and_sent_the_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: None, trouble: str
) -> None:
    write_run(tmp_path, "aaaaaaaaaaaa")
    run = "gamma_alpha-aaaaaaaaaaaa"
    with Stub(mode="working" if trouble in ("closed", "dying") else trouble) as stub:
        use(stub, monkeypatch)
        if trouble == "dying":
            stub.dies_after = 2  # the run has begun: wandb marks it as synced nevertheless
        if trouble == "closed":
            monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
        start = time.monotonic()
        outcome = sync([tmp_path])
        assert time.monotonic() - start < TIMEOUT + TIMEOUT_PER_RUN
        assert list(outcome.failed) == [run] and not outcome.sent
        assert run in str(outcome)
        assert [part.run_id for part in unsent([tmp_path])] == [run]
    with Stub() as stub:
        use(stub, monkeypatch)
        assert sync([tmp_path]).sent == [run]
        assert len(stub.runs[run].rows) == 5


@pytest.mark.wandb
def test_a_server_that_takes_its_time_gets_every_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: None
) -> None:
    """As a healthy one seems on a busy machine. Requests had ten seconds before."""
    for part in ("GRAPHQL", "FILE_STREAM", "FILE_TRANSFER"):
        for name in ("RETRY_MAX", "RETRY_WAIT_MAX_SECONDS", "TIMEOUT_SECONDS"):
            monkeypatch.delenv(f"WANDB_X_{part}_{name}")
    for trial in ("aaaaaaaaaaaa", "bbbbbbbbbbbb"):
        write_run(tmp_path, trial)
    with Stub(delay=12.0) as stub:
        use(stub, monkeypatch)
        outcome = sync([tmp_path])
    assert outcome.failed == {}
    assert sorted(outcome.sent) == ["gamma_alpha-aaaaaaaaaaaa", "gamma_alpha-bbbbbbbbbbbb"]
    assert [len(run.rows) for run in stub.runs.values()] == [5, 5]


def test_an_attempt_in_another_time_zone_is_newer_although_its_name_is_not(
    tmp_path: Path,
) -> None:
    """Attempts: one in Tokyo, then one in New York, whose clock is thirteen hours behind."""
    folder = trial_folder(tmp_path, "aaaaaaaaaaaa") / "wandb"
    attempts = {"20260102_090000": 1_000_000_000.0, "20260101_200500": 1_000_000_300.0}
    for name, changed in attempts.items():
        file = folder / f"offline-run-{name}-s" / "run-s-a.wandb"
        file.parent.mkdir(parents=True)
        file.touch()
        os.utime(file, (changed, changed))
    assert [part.file.parent.name for part in parts(tmp_path)] == ["offline-run-20260101_200500-s"]


def test_the_newest_part_of_each_trial_is_the_one_that_counts(tmp_path: Path) -> None:
    names = []
    for trial, times in {"aaaaaaaaaaaa": ("20260101_000000",), "bb": ("2026", "2025")}.items():
        for stamp in times:
            folder = trial_folder(tmp_path, trial) / "wandb" / f"offline-run-{stamp}-s-{trial}"
            folder.mkdir(parents=True)
            (folder / f"run-s-{trial}.wandb").write_text(json.dumps(stamp))
            names.append(folder.name)
    assert [part.file.parent.name for part in parts(tmp_path)] == names[:2]
