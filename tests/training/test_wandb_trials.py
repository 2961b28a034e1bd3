"""Real trials with W&B online: a failing server does not change a trial."""

import fcntl
import json
import os
import pty
import select
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from base64 import b64encode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ablations.commands.sweep import UPLOADER, upload
from ablations.reporting.wandb_sync import sync
from ablations.store.manifest import TRIALS
from ablations.store.record import CURVE, LOG, Record, read_record
from ablations.sweep import cli
from ablations.sweep.preflight import preflight_without_torch
from ablations.sweep.wandb_upload import uploading
from ablations.sweep.work_dir import write_sweep
from tests.helpers.wandb_reader import newest, records, rows, summary
from tests.helpers.wandb_stub import KEY, Stub, StubRun

pytestmark = pytest.mark.wandb

REPOSITORY = Path(__file__).parents[2]
GRID = """
blocks = [
    dict(
        points=[dict(gamma=2.0, alpha=0.25)],
        set={
            "model.bbox_head.loss_cls": dict(
                type="ablations.FocalLoss", gamma="$gamma", alpha="$alpha", use_sigmoid=True
            )
        },
    )
]
"""
SMALL = "train_dataloader.batch_size=4"
# What may differ between two runs of one trial: time, memory, and what hashes or holds those.
VOLATILE = {"timings", "peak_memory_bytes", "attempts", "files"}
# What a trial may take longer, in seconds, from the start of its process to its end: the 20 that it
# waits for W&B at most, and 10 for importing wandb on a machine that has other things to do, such
# as sending. A client that waits for its server takes 90 to begin with, and for ever to end.
MAY_COST = 30.0


@pytest.fixture(scope="module", autouse=True)
def alone() -> Iterator[None]:
    """Remove W&B settings from the environment; the client gives up soon."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("WANDB_")]:
            patch.delenv(name)
        for part in ("GRAPHQL", "FILE_STREAM", "FILE_TRANSFER"):
            patch.setenv(f"WANDB_X_{part}_RETRY_MAX", "1")
            patch.setenv(f"WANDB_X_{part}_RETRY_WAIT_MAX_SECONDS", "1")
            patch.setenv(f"WANDB_X_{part}_TIMEOUT_SECONDS", "5")
        yield


def sweep_flags(work_dir: Path, *options: str) -> list[str]:
    """The flags of a smoke sweep of one trial."""
    grid = work_dir.parent / "one.py"
    grid.write_text(GRID)
    flags = ["--grid", str(grid), "--smoke", "--work-dir", str(work_dir), "--workers", "1"]
    return [*flags, "--no-report", "--cfg-options", *(options or [SMALL])]


def the_trial(work_dir: Path) -> Path:
    (folder,) = (work_dir / TRIALS).iterdir()
    return folder


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep of one trial, not yet run."""
    work_dir = tmp_path_factory.mktemp("planned") / "sweep"
    request = cli.resolve(cli.parse(sweep_flags(work_dir)))
    write_sweep(request, preflight_without_torch(request)["data"], ["test"])
    return work_dir


def train(work_dir: Path, mode: str) -> float:
    """Run the sweep's trial; returns the seconds that its process took."""
    command = [sys.executable, "runners/trial.py", str(the_trial(work_dir))]
    with (the_trial(work_dir) / LOG).open("a") as log:
        start = time.monotonic()
        subprocess.run(
            command,
            cwd=REPOSITORY,
            env=os.environ | {"WANDB_MODE": mode},
            stdout=log,
            stderr=log,
            check=True,
        )
    return time.monotonic() - start


def assert_same_result(work_dir: Path, plain: Path) -> Record:
    """The record equals that of the trial without W&B, except for what may differ."""
    assert not list(plain.rglob("*wandb*"))
    found, expected = (read_record(the_trial(each)) for each in (work_dir, plain))
    assert found is not None and expected is not None

    def kept(record: Record) -> str:
        fields = {key: value for key, value in vars(record).items() if key not in VOLATILE}
        return json.dumps(fields, sort_keys=True)

    assert kept(found) == kept(expected)
    curves = [np.load(the_trial(each) / CURVE) for each in (work_dir, plain)]
    for name in curves[1].files:
        np.testing.assert_array_equal(curves[0][name], curves[1][name])
    return found


@pytest.mark.parametrize("trouble", ["closed", "unavailable", "refusing", "hanging", "dying"])
def test_a_failing_server_costs_a_trial_nothing(
    tmp_path: Path,
    planned: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    trouble: str,
) -> None:
    work_dir, plain = tmp_path / "sweep", tmp_path / "plain"
    for copy in (work_dir, plain):
        shutil.copytree(planned, copy)
    with Stub(mode="working" if trouble in ("closed", "dying") else trouble) as stub:
        for name, value in stub.environment.items():
            monkeypatch.setenv(name, value)
        if trouble == "closed":
            monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
        if trouble == "dying":
            stub.dies_after = 2
        # Side by side, so that a busy machine slows both.
        with uploading(work_dir, "online", UPLOADER, every=2.0), ThreadPoolExecutor() as pool:
            took = pool.map(train, (work_dir, plain), ("online", "disabled"))
        seconds, seconds_without = took
        assert stub.asked or trouble == "closed"
        upload(work_dir, tmp_path / "no report", online=True)
    assert f"report.py {work_dir} --wandb does it" in capsys.readouterr().out
    assert_same_result(work_dir, plain)
    assert seconds < seconds_without + MAY_COST
    assert [row["iteration"] for row in rows(newest(the_trial(work_dir)))] == [10, 20, 30]


@dataclass(frozen=True)
class Sent:
    """A sweep of one trial that was uploaded to a working service."""

    work_dir: Path
    run: StubRun
    output: str


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory) -> Sent:
    work_dir = tmp_path_factory.mktemp("sent") / "sweep"
    command = [sys.executable, "runners/sweep.py", *sweep_flags(work_dir), "--wandb", "online"]
    with Stub() as stub:
        done = subprocess.run(
            command,
            cwd=REPOSITORY,
            env=os.environ | stub.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        (identity,) = stub.runs
        assert identity == f"sweep-{the_trial(work_dir).name}"
        return Sent(work_dir, stub.runs[identity], done.stdout)


def test_a_sweep_is_sent_and_its_record_is_the_same(
    sent: Sent, planned: Path, tmp_path: Path
) -> None:
    plain = tmp_path / "plain"
    shutil.copytree(planned, plain)
    train(plain, "disabled")
    record = assert_same_result(sent.work_dir, plain)
    assert "to send" not in sent.output
    assert [row["iteration"] for row in sent.run.rows] == [10, 20, 30]
    assert sent.run.summary["AP"] == record.metrics["AP"]
    assert sent.run.exit_code == 0
    pictures = [name for name in sent.run.files if name.startswith("media/images/predictions")]
    assert len(pictures) == 4


def test_the_key_is_in_no_file(sent: Sent) -> None:
    hidden = (KEY.encode(), b64encode(f"api:{KEY}".encode()))  # as it is, and in a request's head
    for path in sent.work_dir.rglob("*"):
        if path.is_file():
            assert not any(form in path.read_bytes() for form in hidden), path


def test_the_offline_run_is_the_record(sent: Sent) -> None:
    folder = the_trial(sent.work_dir)
    record = read_record(folder)
    assert record is not None
    file = newest(folder)
    begun = records(file, "run")[0]
    assert begun["run_id"] == f"{record.sweep}-{record.trial_id}"
    assert begun["run_group"] == record.label == "gamma=2 alpha=0.25"
    assert begun["display_name"] == "gamma=2 alpha=0.25 seed 0"
    assert begun["tags"] == [record.sweep] and begun["job_type"] == "trial"

    found = summary(file)
    coordinates = {name: found["config"][name] for name in ("gamma", "alpha", "loss", "seed")}
    assert coordinates == {**record.point, "loss": "FocalLoss", "seed": record.seed}
    assert found["config"]["detector"]["model"]["bbox_head"]["loss_cls"] == record.loss
    expected: dict[str, Any] = {"status": record.status, **record.metrics}
    expected |= {f"final/{name}": value for name, value in record.final.items()}
    expected |= {"best/AP": record.history[-1]["AP"], "best/iteration": 30}
    assert {name: found["summary"].get(name) for name in expected} == expected

    history = rows(file)
    with np.load(folder / CURVE) as curve:
        means = curve["loss"].reshape(3, 10).mean(1)
    assert [row["iteration"] for row in history] == [10, 20, 30]
    np.testing.assert_allclose([row["train/loss"] for row in history], means)
    last = history[-1]
    assert last["val/AP"] == record.metrics["AP"]
    assert last["predictions._type"] == "images/separated" and last["predictions.count"] == 4
    assert last["loss_cdf/negatives_table._type"] == "table-file"


def test_wandbs_terminal_viewer_opens_the_run(
    sent: Sent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))  # where it keeps its settings
    monkeypatch.setenv("TERM", "xterm-256color")
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 60, 200, 0, 0))  # rows, columns
    command = [sys.executable, "-m", "wandb", "leet", "run", str(newest(the_trial(sent.work_dir)))]
    viewer = subprocess.Popen(command, stdin=its, stdout=its, stderr=its, start_new_session=True)
    os.close(its)
    try:
        shown, deadline = b"", time.monotonic() + 30
        awaited = (b"gamma=2 alpha=0.25 seed 0", b"best/AP", b"train/loss_cls", b"x: iteration")
        while not all(text in shown for text in awaited) and time.monotonic() < deadline:
            if select.select([ours], [], [], 0.5)[0]:
                shown += os.read(ours, 1 << 16)
        assert [text for text in awaited if text not in shown] == []
        os.write(ours, b"q")
        assert viewer.wait(20) == 0
    finally:
        viewer.kill()
        os.close(ours)


def test_a_killed_trial_goes_on_in_the_same_run_and_loses_no_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work_dir = tmp_path / "sweep"
    often = "custom_hooks.5={'type': 'ResumableCheckpointHook', 'interval': 5}"
    command = [sys.executable, "runners/sweep.py", *sweep_flags(work_dir, often)]
    process = subprocess.Popen(command, cwd=REPOSITORY)
    try:
        deadline = time.monotonic() + 200
        while not list(work_dir.glob("trials/*/checkpoint.pth")):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        folder = the_trial(work_dir)
        os.kill(json.loads((folder / "lease.json").read_text())["pid"], signal.SIGKILL)
        assert process.wait(300) == 0  # the sweep continues a trial that was killed
    finally:
        process.kill()
    assert len(list(folder.glob("wandb/offline-run-*"))) == 2
    with Stub() as stub:
        for name, value in stub.environment.items():
            monkeypatch.setenv(name, value)
        assert sync([work_dir]).sent == [f"sweep-{folder.name}"]
        sent = stub.runs[f"sweep-{folder.name}"].rows
    assert [row["iteration"] for row in sent] == [10, 20, 30]
    with np.load(folder / CURVE) as curve:
        means = curve["loss"].reshape(3, 10).mean(1)
    np.testing.assert_allclose([row["train/loss"] for row in sent], means)
