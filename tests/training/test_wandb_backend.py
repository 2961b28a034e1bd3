"""The backend with the real client, offline: what it writes, and that it cannot delay a trial."""

import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import mmcv
import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

from ablations.analysis.loss_cdf import loss_cdf
from ablations.store import record as files
from ablations.store.files import write_json
from ablations.store.logit_histogram import LOGIT_BINS, LOGIT_LIMIT
from ablations.store.record import Record
from ablations.training import wandb_backend
from ablations.training.wandb_backend import RunWriter, TrialRunBackend, close_run
from ablations.training.wandb_backend import loss_cdf as chart_cdf
from ablations.training.wandb_client import settings_errors
from tests.helpers.wandb_reader import newest, records, rows, summary

REPOSITORY = Path(__file__).parents[2]
TRIAL = {
    "id": "0123456789ab",
    "sweep": "gamma_alpha",
    "point": {"gamma": 2.0, "alpha": 0.25},
    "label": "gamma=2 alpha=0.25",
    "seed": 3,
    "loss": {"type": "ablations.FocalLoss", "gamma": 2.0, "alpha": 0.25},
}
RECORD = Record(
    trial_id=TRIAL["id"],
    sweep=TRIAL["sweep"],
    point=TRIAL["point"],
    label=TRIAL["label"],
    seed=TRIAL["seed"],
    status="diverged",
    reason="the loss was nan at iteration 30",
    metrics={"AP": 41.0, "AP_L": None},
    history=[{"iteration": 10, "AP": 43.5}, {"iteration": 20, "AP": 41.0}],
    final={"loss": 0.5},
)


@pytest.fixture
def trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("WANDB_MODE", "WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    write_json(tmp_path / files.TRIAL, TRIAL)
    return tmp_path


def backend_of(trial: Path) -> tuple[TrialRunBackend, Any]:
    """A backend with its config, and the part of a Runner that it uses."""
    backend = TrialRunBackend(save_dir=str(trial))
    backend.add_config(Config({"model": {"type": "RetinaNet"}, "work_dir": str(trial)}))
    visualizer = SimpleNamespace(_vis_backends={"wandb": backend})
    return backend, SimpleNamespace(visualizer=visualizer, work_dir=str(trial), iter=30)


def test_a_run_reads_back_as_the_trial(trial: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "5ec7e7" * 7)
    backend, runner = backend_of(trial)
    for step in (10, 20, 30):
        backend.add_scalars({"train/loss": 1.0 / step}, step)
        backend.add_scalars({"loss": 9.0, "time": 0.1}, step)  # LoggerHook's: not the run's
        if step == 20:
            backend.add_scalars({"val/AP": 41.0}, step)
    close_run(runner, "diverged", RECORD)

    run = summary(newest(trial))
    assert run["config"]["gamma"] == 2 and run["config"]["alpha"] == 0.25
    assert run["config"]["loss"] == "FocalLoss" and run["config"]["seed"] == 3
    assert run["config"]["detector"] == {"model": {"type": "RetinaNet"}}
    assert run["summary"]["AP"] == 41.0 and run["summary"]["best/AP"] == 43.5
    assert run["summary"]["best/iteration"] == 10
    assert run["summary"]["status"] == "diverged"

    begun = records(newest(trial), "run")[0]
    assert begun["run_id"] == "gamma_alpha-0123456789ab"
    assert begun["run_group"] == "gamma=2 alpha=0.25" and begun["job_type"] == "trial"
    assert begun["tags"] == ["gamma_alpha"]
    assert begun["display_name"] == "gamma=2 alpha=0.25 seed 3"
    history = rows(newest(trial))
    assert [row["iteration"] for row in history] == [10, 20, 30]
    assert history[1]["train/loss"] == 0.05 and history[1]["val/AP"] == 41.0
    kept = b"".join(path.read_bytes() for path in trial.rglob("*") if path.is_file())
    assert b"5ec7e75ec7e7" not in kept
    assert not list(trial.rglob("*.py"))


def test_a_run_names_the_checked_annotations_and_not_where_they_lie() -> None:
    checked = "/home/me/work/annotations-00ff.json"
    config = {
        "train_dataloader": {"dataset": {"dataset": {"ann_file": checked, "data_root": "data/"}}},
        "val_evaluator": {"type": "BoxAP", "ann_file": checked, "outfile": "/home/me/x.npz"},
        "test_evaluator": [{"ann_file": "annotations/val.json"}],
    }
    shared = wandb_backend.run_config(TRIAL, config)["detector"]
    named = {"ann_file": "annotations-00ff.json", "data_root": "data/"}
    assert shared["train_dataloader"] == {"dataset": {"dataset": named}}
    assert shared["val_evaluator"]["ann_file"] == "annotations-00ff.json"
    assert shared["test_evaluator"] == [{"ann_file": "annotations/val.json"}]


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_pictures_are_turned_as_trials_decode_them(tmp_path: Path, orientation: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 64, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    empty = {"image_id": [], "category_id": [], "bbox": np.empty((0, 4)), "score": []}
    np.savez(tmp_path / files.PREDICTIONS, **empty)
    info = {"img_id": 3, "img_path": str(tmp_path / "turned.png"), "instances": []}
    dataset = MagicMock(metainfo={"classes": ("cat",)}, cat_ids=[1])
    dataset.__len__.return_value = 1
    dataset.get_data_info.return_value = info
    runner: Any = SimpleNamespace(val_dataloader=SimpleNamespace(dataset=dataset))
    (picture,) = wandb_backend._pictures(runner, tmp_path)["predictions"]
    decoded = mmcv.imfrombytes((tmp_path / "turned.png").read_bytes(), channel_order="rgb")
    np.testing.assert_array_equal(np.asarray(picture.image.convert("RGB")), decoded)


def test_disabled_and_foreign_runs_write_nothing(
    trial: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    backend, runner = backend_of(trial)
    backend.add_scalars({"train/loss": 1.0}, 10)
    close_run(runner, "finished", RECORD)
    monkeypatch.delenv("WANDB_MODE")
    (trial / files.TRIAL).unlink()
    backend, runner = backend_of(trial)
    backend.add_scalars({"train/loss": 1.0}, 10)
    close_run(runner, "finished", RECORD)
    assert list(trial.iterdir()) == []


@pytest.mark.parametrize("trouble", ["no wandb", "init raises", "hangs"])
def test_losing_wandb_costs_a_bounded_time(
    trial: Path, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    if trouble == "no wandb":
        monkeypatch.setattr(wandb_backend, "wandb", None)
    else:
        monkeypatch.setattr(wandb_backend, "FINISH_TIMEOUT", 0.5)

        def begin(*_: Any) -> None:
            time.sleep(60 if trouble == "hangs" else 0)
            raise OSError("no service")

        monkeypatch.setattr(wandb_backend, "_begin", begin)
    start = time.monotonic()
    backend, runner = backend_of(trial)
    for step in range(1000):
        backend.add_scalars({"train/loss": 1.0}, step)
    close_run(runner, "finished", RECORD)
    assert time.monotonic() - start < 2.0


def test_an_action_that_raises_ends_the_writing_and_nothing_else() -> None:
    done = []
    writer = RunWriter(lambda: done)
    writer.write(lambda run: run.append(1))
    writer.write(lambda run: run.fail())
    writer.write(lambda run: run.append(2))
    writer.close(timeout=5.0)
    assert done == [1]


def test_why_a_run_ends_early_is_kept_for_the_sweeps_last_line(
    trial: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def begin(*_: Any) -> None:
        raise ValueError("no such\nproject")

    with monkeypatch.context() as broken:
        broken.setattr(wandb_backend, "_begin", begin)
        _, runner = backend_of(trial)
        close_run(runner, "finished", RECORD)
    assert (trial / "wandb" / "problem.txt").read_text() == "ValueError: no such project"
    _, runner = backend_of(trial)  # the next attempt
    close_run(runner, "diverged", RECORD)
    assert not (trial / "wandb" / "problem.txt").exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [("WANDB_CONSOLE", "loud"), ("WANDB_INIT_TIMEOUT", "soon"), ("WANDB_RUN_ID", "a/b")],
)
def test_any_variable_that_wandb_refuses_is_named_before_a_trial_starts(
    trial: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    assert settings_errors() == []
    monkeypatch.setenv(name, value)
    [line] = settings_errors()
    assert line.startswith(f"{name} is {value!r}: ") and "\n" not in line
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert settings_errors() == []


def test_importing_the_trial_starts_no_service() -> None:
    code = (
        "import ablations.training.trial, pathlib, threading\n"
        "children = [p.read_text() for p in pathlib.Path('/proc/self/task').glob('*/children')]\n"
        "print(threading.active_count(), ''.join(children).split())"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=REPOSITORY)
    assert done.stdout.split("\n")[-2] == "1 []"


@pytest.mark.parametrize("positive", [True, False])
def test_the_charts_cdf_is_the_reports(positive: bool) -> None:
    rng = np.random.default_rng(0)
    edges = (-LOGIT_LIMIT, LOGIT_LIMIT)
    counts = np.histogram(rng.normal(-2, 2, 5000), LOGIT_BINS, edges)[0].astype(np.int64)
    expected = loss_cdf(counts, positive, gamma=2.0)
    grid = np.linspace(0, 1, 101)

    found = chart_cdf(counts, positive, gamma=2.0)
    np.testing.assert_allclose(found, np.interp(grid, expected.fraction, expected.share), atol=1e-9)
