"""Real trials that hang, leak, fork and die, or lose a worker; signals to all processes; torn
checkpoints; and the loss of a process in both trials of a sweep of two processes each."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from ablations.store.files import read_json
from ablations.store.states import TrialState, sweep_states
from tests.end_to_end.conftest import REPOSITORY
from tests.end_to_end.test_processes import CONFIG as HALF
from tests.end_to_end.test_processes import DIES, MORTAL

pytestmark = pytest.mark.slow

FLAGS = ("--grid", "grid.py", "--config", "config.py", "--work-dir", "work", "--no-report")
HOOKS = """
custom_hooks = [
    dict(type="LossCurveHook"),
    dict(type="ProgressHook", every_s=0.0),
    dict(type="ResumableCheckpointHook", interval=5),
]
"""
FAULTS = """
import multiprocessing, os, pathlib, resource, signal, subprocess, time
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

@HOOKS.register_module()
class Faults(Hook):
    def after_train_iter(self, runner, *args, **kwargs):
        if runner.iter == 7:
            gamma = runner.cfg.model.bbox_head.loss_cls.gamma
            getattr(self, {1: "hang", 2: "leak", 3: "fork", 4: "worker", 5: "well"}[gamma])()

    def well(self):
        pass

    def hang(self):
        time.sleep(10000)

    def leak(self):
        pages = int(pathlib.Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + 300 * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        self.kept = []
        while True:
            self.kept.append(bytearray(2**20))

    def fork(self):
        if not pathlib.Path("forked").exists():
            left = subprocess.Popen(["sleep", "300"])
            pathlib.Path("forked").write_text(str(left.pid))
            os.kill(os.getpid(), signal.SIGKILL)

    def worker(self):
        if not pathlib.Path("killed").exists():
            pathlib.Path("killed").touch()
            os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)
            time.sleep(60)
"""
GAMMAS = """
blocks = [dict(product={"gamma": [1, 2, 3, 4, 5]}, set={"model.bbox_head.loss_cls": dict(
    type="ablations.FocalLoss", gamma=2.0, alpha=0.25, use_sigmoid=True),
    "model.bbox_head.loss_cls.gamma": "$gamma"})]
"""


def by_label(work_dir: Path) -> dict[str, TrialState]:
    return {state.entry.label: state for state in sweep_states(work_dir)[1]}


def test_each_way_to_fail_is_a_result_and_the_others_go_on(sweep_command, tiny: Path) -> None:
    (tiny / "faults.py").write_text(FAULTS)
    (tiny / "grid.py").write_text(GAMMAS)
    with (tiny / "config.py").open("a") as config:
        config.write(HOOKS.replace("= [", '= [\n    dict(type="Faults"),'))
        config.write('custom_imports = dict(imports=["ablations.training", "faults"])\n')
        config.write("hung_after_s = 15\ntrain_dataloader.update(num_workers=1)\n")
    done = sweep_command(*FLAGS, timeout=550)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    states = by_label(tiny / "work")
    found = {label: state.state for label, state in states.items()}
    assert found == {
        "gamma=1": "failed",
        "gamma=2": "failed",
        **dict.fromkeys(("gamma=3", "gamma=4", "gamma=5"), "finished"),
    }
    assert (states["gamma=1"].reason or "").startswith("no progress for ")
    assert "after iteration 7" in (states["gamma=1"].reason or "")
    assert "in hang" in (states["gamma=1"].folder / "log.txt").read_text()  # where it hung
    assert (states["gamma=2"].reason or "").startswith("out of memory: MemoryError")
    for label in ("gamma=1", "gamma=2"):
        assert str(states[label].folder / "log.txt").replace(f"{tiny}/", "") in done.stderr
    outcomes = {name: states[name].record.attempts[0]["outcome"] for name in found}
    assert "DataLoader worker" in outcomes["gamma=4"]
    left = int((tiny / "forked").read_text())
    assert not psutil.pid_exists(left) or psutil.Process(left).status() == "zombie"
    assert not list((tiny / "work").rglob("*lease*"))


@pytest.mark.parametrize("attempt", range(2))
def test_sigterm_to_every_process_is_an_interruption_with_a_checkpoint(
    tiny: Path, environment: dict[str, str], attempt: int
) -> None:
    text = (tiny / "config.py").read_text().replace("12", "4000")
    text += HOOKS + "train_dataloader.update(num_workers=2)\n"
    (tiny / "config.py").write_text(text)
    process = subprocess.Popen(
        [sys.executable, str(REPOSITORY / "runners" / "sweep.py"), *FLAGS, "--workers", "2"],
        cwd=tiny,
        env=environment,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 250
        while not _all_begun(tiny / "work", 6):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        everybody = [process.pid, *(p.pid for p in psutil.Process(process.pid).children(True))]
        assert len(everybody) >= 1 + 1 + 2 + 4
        for pid in everybody if attempt else reversed(everybody):
            os.kill(pid, signal.SIGTERM)
        assert process.wait(100) == 130
    finally:
        process.kill()
    for state in sweep_states(tiny / "work")[1]:
        assert (state.state, state.reason) == ("interrupted", "stopped by SIGTERM")
        assert state.progress["state"] == "interrupted"
        assert (state.folder / "checkpoint.pth").is_file()
    deadline = time.monotonic() + 30  # the fork server ends when it finds its command gone
    while any(psutil.pid_exists(pid) for pid in everybody[1:]):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert not list((tiny / "work").rglob("*lease*"))


def _all_begun(work_dir: Path, iteration: int) -> bool:
    found = [read_json(path) for path in work_dir.glob("trials/*/status.json")]
    return len(found) == 2 and all(each.get("iteration", 0) >= iteration for each in found)


def test_a_torn_checkpoint_costs_the_way_from_the_one_before(
    sweep_command, tiny: Path, environment: dict[str, str]
) -> None:
    """And the result is that of a sweep that nobody disturbed."""
    with (tiny / "config.py").open("a") as config:
        config.write(HOOKS + 'custom_imports = dict(imports=["ablations.training", "stops"])\n')
        config.write('custom_hooks.append(dict(type="Stops"))\n')
    (tiny / "stops.py").write_text(
        DIES.replace("get_rank() == 1 and runner.iter == 13", "runner.iter == 10")
        .replace('pathlib.Path("died")', 'pathlib.Path(runner.work_dir, "died")')
        .replace("DiesOnce", "Stops")
        .replace("died.touch()", "died.touch(); _tear(runner.work_dir)")
        + "\n\ndef _tear(folder):\n"
        "    path = pathlib.Path(folder, 'checkpoint.pth')\n"
        "    path.write_bytes(path.read_bytes()[:1000])\n"
    )
    assert sweep_command(*FLAGS).returncode == 0
    for state in sweep_states(tiny / "work")[1]:
        log = (state.folder / "log.txt").read_text()
        assert "is damaged (" in log and "the trial continues from the one before" in log
        assert "resumed epoch: 0, iter: 5" in log
    (tiny / "stops.py").write_text((tiny / "stops.py").read_text().replace("== 10", "== -1"))
    whole = sweep_command(*FLAGS[:5], "whole", "--no-report")
    assert whole.returncode == 0, whole.stderr
    for torn, straight in zip(
        sweep_states(tiny / "work")[1], sweep_states(tiny / "whole")[1], strict=True
    ):
        assert torn.record.metrics == straight.record.metrics
        for name in ("curve.npz", "predictions.npz"):
            assert (torn.folder / name).read_bytes() == (straight.folder / name).read_bytes()


def test_both_trials_of_two_processes_lose_one_and_go_on(sweep_command, tiny: Path) -> None:
    (tiny / "dies.py").write_text(
        DIES.replace('pathlib.Path("died")', 'pathlib.Path(runner.work_dir, "died")')
    )
    (tiny / "half.py").write_text(HALF.format(images=2) + MORTAL)
    flags = ("--grid", "grid.py", "--config", "half.py", "--gpus-per-trial", "2", "--workers", "2")
    done = sweep_command(*flags, "--work-dir", "work", "--no-report", timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    for state in sweep_states(tiny / "work")[1]:
        assert state.record is not None
        outcomes = [attempt["outcome"] for attempt in state.record.attempts]
        assert outcomes == ["another process of the trial is gone", "finished"]
        assert "resumed epoch: 0, iter: 10" in (state.folder / "log.txt").read_text()
