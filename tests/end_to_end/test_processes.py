"""Several processes of one trial train as one process with the whole batch would."""

from pathlib import Path

import numpy as np
import pytest

from ablations.store.record import Record
from ablations.store.states import sweep_states

CONFIG = """
_base_ = ["config.py"]
train_dataloader = dict(batch_size={images})
train_cfg = dict(max_iters=20, val_interval=20)
optim_wrapper = dict(
    _delete_=True, type="OptimWrapper", optimizer=dict(type="SGD", lr=0.01, momentum=0.9)
)
model = dict(
    backbone=dict(norm_eval=True),  # statistics of a process's own images would differ
    bbox_head=dict(reduce_normaliser=True),
)
"""
GRID = """
blocks = [
    dict(points=[dict(loss="FL")],
         set={"model.bbox_head.loss_cls": dict(type="ablations.FocalLoss", gamma=2.0, alpha=0.25,
                                               use_sigmoid=True)})
]
"""


def test_two_processes_follow_one(sweep, tiny: Path) -> None:
    """Half the batch each, no flips, frozen batch norm, the normaliser all-reduced."""
    (tiny / "grid.py").write_text(GRID)
    curves: dict[int, dict[str, np.ndarray]] = {}
    records: dict[int, Record] = {}
    for processes in (1, 2):
        (tiny / "half.py").write_text(CONFIG.format(images=4 // processes))
        flags = ["--gpus-per-trial", str(processes), "--work-dir", f"work{processes}"]
        done = sweep("--grid", "grid.py", "--config", "half.py", *flags, "--no-report")
        assert done.returncode == 0, done.stdout + done.stderr
        (state,) = sweep_states(tiny / f"work{processes}")[1]
        curves[processes] = dict(np.load(state.folder / "curve.npz"))
        records[processes] = state.record
    assert len(curves[1]["loss"]) == 20
    for name in ("loss", "loss_cls", "loss_bbox", "loss_cls_positive"):
        np.testing.assert_allclose(curves[2][name], curves[1][name], rtol=1e-4)
    np.testing.assert_array_equal(curves[2]["num_positive"], curves[1]["num_positive"])
    assert curves[1]["loss"][-1] < curves[1]["loss"][0]
    for processes, record in records.items():
        assert record.protocol["processes"] == processes
        assert record.protocol["batch_size"] == 4
        assert "all processes" in record.protocol["loss_normaliser"]
    assert records[2].metrics["AP"] == pytest.approx(records[1].metrics["AP"], abs=0.5)


DIES = """
import os, pathlib, signal
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

@HOOKS.register_module()
class DiesOnce(Hook):
    def after_train_iter(self, runner, *args, **kwargs):
        died = pathlib.Path("died")
        if get_rank() == 1 and runner.iter == 13 and not died.exists():
            died.touch()
            os.kill(os.getpid(), signal.SIGKILL)
"""
MORTAL = """
custom_imports = dict(imports=["ablations.training", "dies"])
custom_hooks = [
    dict(type="LossCurveHook"),
    dict(type="ProgressHook"),
    dict(type="DiesOnce"),
    dict(type="ResumableCheckpointHook", interval=10),
]
"""


def test_a_trial_that_loses_a_process_goes_on_from_its_checkpoint(sweep, tiny: Path) -> None:
    (tiny / "grid.py").write_text(GRID)
    (tiny / "dies.py").write_text(DIES)
    (tiny / "half.py").write_text(CONFIG.format(images=2) + MORTAL)
    done = sweep("--grid", "grid.py", "--config", "half.py", "--gpus-per-trial", "2", "--no-report")
    assert done.returncode == 0, done.stdout + done.stderr
    (state,) = sweep_states(tiny / "work_dirs" / "grid-half")[1]
    assert state.record is not None
    first, second = state.record.attempts
    assert first["outcome"] == "another process of the trial is gone"
    assert second["outcome"] == "finished"
    log = (state.folder / "log.txt").read_text()
    assert "resumed epoch: 0, iter: 10" in log
