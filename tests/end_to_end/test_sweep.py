"""One real sweep, from the command line to the report."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ablations.store.record import METRICS, Record, damaged_files
from ablations.store.states import sweep_states
from tests.end_to_end.conftest import REPOSITORY

FL1 = '"FL1": dict(type="ablations.FocalLoss", gamma=1.0, alpha=0.25, use_sigmoid=True)'
FLAGS = ("--grid", "grid.py", "--config", "config.py", "--work-dir", "work")


def test_two_trials_through_to_the_report_and_not_twice(sweep_command, tiny: Path) -> None:
    first = sweep_command(*FLAGS)
    assert first.returncode == 0, first.stdout + first.stderr
    assert "2 finished" in first.stdout
    states = sweep_states(tiny / "work")[1]
    assert [state.entry.label for state in states] == ["CE", "FL"]
    report = (tiny / "reports" / "work" / "README.md").read_text()
    assert "CE" in report
    assert (tiny / "reports" / "work" / "trials.csv").is_file()
    for state in states:
        _check_record(tiny / "work", state)
    # All points of a seed share weights and data: the first batch has the same positives.
    curves = [np.load(state.folder / "curve.npz") for state in states]
    assert curves[0]["num_positive"].tolist() == curves[1]["num_positive"].tolist()
    assert curves[0]["loss_bbox"][0] == curves[1]["loss_bbox"][0]
    assert curves[0]["loss_cls"][0] > 2 * curves[1]["loss_cls"][0]

    written = {p: p.stat().st_mtime_ns for p in (tiny / "work").rglob("*") if p.is_file()}
    began = time.monotonic()
    second = sweep_command(*FLAGS)
    assert second.returncode == 0
    assert "are done" in second.stdout
    assert time.monotonic() - began < 10
    assert {p: p.stat().st_mtime_ns for p in (tiny / "work").rglob("*") if p.is_file()} == written

    changed = sweep_command(*FLAGS, "--cfg-options", "optim_wrapper.optimizer.lr=0.5")
    assert changed.returncode == 2
    assert "cfg_options.optim_wrapper.optimizer.lr: None -> 0.5" in changed.stderr
    planned = sweep_command(*FLAGS, "--seeds", "0", "1", "--dry-run", "--json")
    assert [t["state"] for t in json.loads(planned.stdout)["trials"]] == [
        *("finished", "finished"),
        *("pending", "pending"),
    ]


def test_trials_that_share_their_data_give_the_same(trained: Path, environment) -> None:
    tiny = trained
    driver = tiny / "sharing.py"
    driver.write_text(
        "import sys\n"
        "from ablations.sweep import request\n"
        "from runners.sweep import main\n"
        "if __name__ == '__main__':\n"
        "    request.WORTH_SHARING = 0\n"
        "    sys.exit(main())\n"
    )
    flags = ("--grid", "grid.py", "--config", "config.py", "--work-dir", "shared", "--no-report")
    command = [sys.executable, str(driver), *flags]
    ended = subprocess.run(command, cwd=tiny, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "loads its own data" not in ended.stderr
    for state in sweep_states(tiny / "work")[1]:
        for name in ("curve.npz", "predictions.npz", "probabilities.npz"):
            alone = (state.folder / name).read_bytes()
            assert (tiny / "shared" / "trials" / state.entry.id / name).read_bytes() == alone
        log = (tiny / "shared" / "trials" / state.entry.id / "log.txt").read_text()
        assert "loading annotations" in log  # the validation set's, which is not shared
        assert log.count("loading annotations") < (state.folder / "log.txt").read_text().count(
            "loading annotations"
        )


def _mmdet(record: Record) -> str:
    """The release of mmdet, or of OneDL's fork, that trained a trial."""
    return record.versions.get("mmdet") or record.versions["onedl-mmdetection"]


def _check_record(work: Path, state) -> None:
    record = state.record
    assert record.status == "finished"
    assert set(record.metrics) == set(METRICS)
    assert record.timings["iterations"] == 12
    assert record.git["commit"]
    assert _mmdet(record).startswith("3.")
    assert damaged_files(state.folder, record) == []
    assert {"curve.npz", "predictions.npz", "probabilities.npz", "weights.pth"} <= set(record.files)
    curve = np.load(state.folder / "curve.npz")
    assert curve["iteration"].tolist() == list(range(1, 13))
    np.testing.assert_allclose(curve["loss"], curve["loss_cls"] + curve["loss_bbox"], rtol=1e-5)
    assert (curve["loss_cls_positive"] > 0).all()
    assert (curve["loss_cls_negative"] > 0).all()
    # The record's AP is pycocotools' on the kept predictions and annotations.
    truth = COCO(str(work / f"annotations-{record.data['val']['annotations']}.json"))
    kept = np.load(state.folder / "predictions.npz")
    rows = np.column_stack(
        [kept["image_id"], kept["bbox"].astype(float), kept["score"], kept["category_id"]]
    )
    evaluation = COCOeval(truth, truth.loadRes(rows), "bbox")
    evaluation.params.imgIds = kept["image_ids"].tolist()
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert record.metrics["AP"] == pytest.approx(100 * evaluation.stats[0], abs=1e-9)
    # Every window of the 8 images is in the sample: 1,620 anchors, some of them ignored.
    windows = np.load(state.folder / "probabilities.npz")
    total = int(windows["positive_total"] + windows["negative_total"])
    assert windows["positive"].sum() == windows["positive_total"] > 8
    assert windows["negative"].sum() == windows["negative_total"]
    assert 0.9 * 8 * 1620 * 10 < total <= 8 * 1620 * 10


def _sweep_process(tiny: Path, environment: dict[str, str], *flags: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, str(REPOSITORY / "runners" / "sweep.py"), *FLAGS, *flags],
        cwd=tiny,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A test run in the background ignores Ctrl-C, and what it starts would inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def _wait_for_iteration(work: Path, iteration: int) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        for status in work.glob("trials/*/status.json"):
            if json.loads(status.read_text()).get("iteration", 0) >= iteration:
                return
        time.sleep(0.05)
    raise TimeoutError(f"no trial reached iteration {iteration}")


def test_an_interrupted_sweep_goes_on_to_the_same_result(
    sweep, tiny: Path, environment: dict[str, str]
) -> None:
    # Long enough to be caught in the middle.
    text = (tiny / "config.py").read_text().replace("12", "40")
    text += 'custom_hooks = [dict(type="ChannelsLastHook"), dict(type="LossCurveHook"), '
    text += 'dict(type="ProgressHook", every_s=0.0), dict(type="ProbabilityHook"), '
    text += 'dict(type="ResumableCheckpointHook")]\n'
    (tiny / "config.py").write_text(text)
    process = _sweep_process(tiny, environment, "--workers", "1", "--no-report")
    _wait_for_iteration(tiny / "work", 10)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=90)
    assert process.returncode == 130, errors
    assert "the same command continues" in errors
    states = sweep_states(tiny / "work")[1]
    assert [state.state for state in states] == ["interrupted", "pending"]
    assert states[0].reason == "stopped by SIGTERM"
    assert (states[0].folder / "checkpoint.pth").is_file()

    assert sweep(*FLAGS, "--no-report").returncode == 0
    whole = sweep(*FLAGS[:-1], "whole", "--no-report")
    assert whole.returncode == 0, whole.stderr
    for resumed, straight in zip(
        sweep_states(tiny / "work")[1], sweep_states(tiny / "whole")[1], strict=True
    ):
        assert resumed.record.metrics == straight.record.metrics
        for name in ("curve.npz", "predictions.npz", "probabilities.npz"):
            found, expected = (np.load(s.folder / name) for s in (resumed, straight))
            for key in expected.files:
                np.testing.assert_array_equal(found[key], expected[key], err_msg=f"{name} {key}")
    assert [a["outcome"] for a in sweep_states(tiny / "work")[1][0].record.attempts] == [
        "stopped by SIGTERM",
        "finished",
    ]


BROKEN = """
import pathlib
import torch
from ablations.losses.registry import LOSSES
@LOSSES.register_module()
class Broken(torch.nn.Module):
    use_sigmoid = True
    calls = 0
    def __init__(self, use_sigmoid=True):
        super().__init__()
    def forward(self, pred, target, weight=None, avg_factor=None):
        self.calls += 1
        if self.calls > {calls} and not pathlib.Path("repaired").exists():
            raise RuntimeError("the user has a bug")
        return pred.square().mean()
"""


def broken_after(tiny: Path, calls: int) -> None:
    """Make the sweep's first cell a user's loss that breaks after some calls."""
    (tiny / "broken.py").write_text(BROKEN.format(calls=calls))
    config = (tiny / "config.py").read_text()
    config += 'custom_imports = dict(imports=["ablations.training", "broken"])\n'
    (tiny / "config.py").write_text(config)
    grid = (tiny / "grid.py").read_text().replace("ablations.CrossEntropyLoss", "ablations.Broken")
    (tiny / "grid.py").write_text(grid)


def test_a_failing_trial_is_shown_and_spares_the_others(sweep, tiny: Path) -> None:
    broken_after(tiny, 10)
    result = sweep(*FLAGS)
    assert result.returncode == 1, result.stdout + result.stderr
    assert "RuntimeError: the user has a bug" in result.stderr
    assert "log.txt" in result.stderr
    states = sweep_states(tiny / "work")[1]
    assert [state.state for state in states] == ["failed", "finished"]
    report = (tiny / "reports" / "work" / "README.md").read_text()
    assert "the user has a bug" in report
    assert "the user has a bug" in (states[0].folder / "log.txt").read_text()
    for state in states:  # gathered before the training that failed
        assert state.record.protocol["iterations"] == 12
        assert _mmdet(state.record).startswith("3.")
        assert set(state.record.code) == {"ablations.losses", "ablations.training", "broken"}

    assert "are done" in sweep(*FLAGS).stdout  # failed trials run again only when asked for
    (tiny / "repaired").touch()
    assert sweep(*FLAGS, "--retry-failed").returncode == 0
    states = sweep_states(tiny / "work")[1]
    assert [state.state for state in states] == ["finished", "finished"]
    assert (states[0].folder / "record-failed-1.json").is_file()

    with (tiny / "broken.py").open("a") as stream:  # another experiment from here on
        stream.write("# an edit\n")
    for seeds in ((), ("--seeds", "5")):
        edited = sweep(*FLAGS, *seeds)
        assert edited.returncode == 2
        (line,) = edited.stderr.splitlines()
        assert "code.broken: " in line


def test_a_loss_that_breaks_in_its_first_batch_costs_no_training(sweep, tiny: Path) -> None:
    broken_after(tiny, 0)
    result = sweep(*FLAGS)
    assert result.returncode == 2
    assert "the user has a bug" in result.stderr.splitlines()[-1]
    assert "Broken" in result.stderr.splitlines()[-1]
    assert not (tiny / "work" / "manifest.json").exists()


@pytest.mark.parametrize(
    "schedule", ["None", 'dict(_delete_=True, type="ConstantLR", by_epoch=False, factor=0.5)']
)
def test_no_schedule_and_one_schedule_have_their_record(sweep, tiny: Path, schedule: str) -> None:
    with (tiny / "config.py").open("a") as config:
        config.write(f"param_scheduler = {schedule}\n")
    result = sweep(*FLAGS, "--no-report", "--smoke")
    assert result.returncode == 0, result.stdout + result.stderr
    for state in sweep_states(tiny / "work")[1]:
        assert state.record.status == "finished"
        assert state.record.protocol["lr_steps"] in ([], "ConstantLR")


def test_output_that_nobody_reads_ends_without_a_traceback(tiny: Path, environment) -> None:
    command = f"{sys.executable} {REPOSITORY / 'runners' / 'sweep.py'} {' '.join(FLAGS)} --dry-run"
    seeds = " ".join(map(str, range(2000)))  # more than a pipe holds
    done = subprocess.run(
        ["bash", "-c", f"{command} --seeds {seeds} | head -1"],
        cwd=tiny,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert len(done.stdout.splitlines()) == 1
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--grid", "nope"], "no grid named 'nope'; valid:"),
        (["--config", "configs/nope.py"], "no config named 'configs/nope.py'; valid:"),
        (["--cfg-options", "model.nope=1"], "no key named 'nope'"),
        (["--cfg-options", "nonsense"], "takes PATH=VALUE"),
        (["--cfg-options", "model.bbox_head.loss_cls.gamma=1"], "the grid grid sets"),
        (["--seeds", "-1"], "--seeds are whole numbers"),
        (["--workers", "0"], "must be at least 1"),
        (["--json"], "--json goes with --dry-run"),
        (["--cfg-options", "optim_wrapper.optimizer.lr=0,01"], "takes a number, not a str"),
        (["--cfg-options", "train_cfg.max_iters=None"], "max_iters is None; it must be a whole"),
        (["--cfg-options", "val_evaluator.type=CocoMetric"], "scored by BoxAP"),
        (["--launcher", "slurm", "--slurm", "gpu"], "--slurm takes PATH=VALUE"),
    ],
)
def test_bad_usage_is_refused_in_one_line(
    sweep, tiny: Path, flags: list[str], message: str
) -> None:
    result = sweep(*FLAGS, *flags)
    assert result.returncode == 2
    assert message in result.stderr.splitlines()[-1]
    assert not (tiny / "work").exists()


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (("grid.py", "gamma=2.0", "gamma=-1"), "gamma"),
        (("config.py", "annotations/val.json", "annotations/none.json"), "none.json"),
    ],
)
def test_a_bad_plan_is_refused_before_anything_starts(
    sweep, tiny: Path, edit: tuple[str, str, str], message: str
) -> None:
    name, old, new = edit
    text = (tiny / name).read_text()
    assert old in text
    (tiny / name).write_text(text.replace(old, new))
    if name == "config.py":
        more = f'val_dataloader = dict(dataset=dict(data_root=data_root, ann_file="{new}"))\n'
        (tiny / name).write_text(text.replace(old, new) + more)
    result = sweep(*FLAGS)
    assert result.returncode == 2, result.stdout + result.stderr
    assert message in result.stderr.splitlines()[-1]
    assert not (tiny / "work" / "trials").exists()
    assert not (tiny / "work" / "manifest.json").exists()


def test_planning_imports_no_torch(tiny: Path, environment: dict[str, str]) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv.pop(1)); from runners import sweep\n"
        "assert sweep.main(sys.argv[1:]) == 0\n"
        "heavy = {'torch', 'mmdet', 'pandas', 'wandb', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    began = time.monotonic()
    result = subprocess.run(
        [
            sys.executable,
            "-c",
            code,
            str(REPOSITORY),
            "--grid",
            "gamma_alpha",
            "--dry-run",
            "--json",
        ],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert len(json.loads(result.stdout)["trials"]) == 16
    assert time.monotonic() - began < 5


def test_a_trials_config_runs_under_mmdets_own_tool(trained: Path, environment) -> None:
    """A trial can be trained without this project's Runner code."""
    import mmdet

    tiny = trained
    state = sweep_states(tiny / "work")[1][1]
    tool = Path(mmdet.__file__).parent / ".mim" / "tools" / "train.py"
    result = subprocess.run(
        [sys.executable, str(tool), str(state.folder / "config.py"), "--work-dir", "stock"],
        cwd=tiny,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    ours, stock = np.load(state.folder / "curve.npz"), np.load(tiny / "stock" / "curve.npz")
    np.testing.assert_array_equal(stock["loss"], ours["loss"])


def test_records_name_the_code_that_was_loaded(tiny: Path, environment: dict[str, str]) -> None:
    """A commit or change made while the sweep runs is not in its trials' records."""
    checkout = tiny / "checkout"
    for name in ("ablations", "runners"):
        shutil.copytree(
            REPOSITORY / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__")
        )

    def git(*arguments: str) -> str:
        who = ["-c", "user.name=somebody", "-c", "user.email=somebody@example.org"]
        command = ["git", "-C", str(checkout), *who, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "--message", "loaded")
    loaded = git("rev-parse", "HEAD")
    (checkout / "reports").mkdir()
    (checkout / "reports" / "README.md").touch()  # an earlier sweep's; no code
    flags = [*FLAGS, "--workers", "1", "--no-report"]
    process = subprocess.Popen(
        [sys.executable, str(checkout / "runners" / "sweep.py"), *flags],
        cwd=tiny,
        env=environment | {"PYTHONPATH": str(checkout), "PYTHONDONTWRITEBYTECODE": "1"},
    )
    try:
        while not list(tiny.glob("work/trials/*/status.json")):
            assert process.poll() is None
            time.sleep(0.05)
        git("commit", "--quiet", "--allow-empty", "--message", "made meanwhile")
        (checkout / "draft.py").touch()
        assert process.wait(120) == 0
    finally:
        process.kill()
    states = sweep_states(tiny / "work")[1]
    assert [state.record.git for state in states] == [{"commit": loaded, "dirty": False}] * 2


def test_cells_that_another_sweep_has_trained_are_not_trained_again(sweep, trained: Path) -> None:
    tiny = trained
    grid = (tiny / "grid.py").read_text().replace('dict(loss="CE"), ', 'dict(loss="FL1"), ')
    grid = grid.replace('"CE": dict(type="ablations.CrossEntropyLoss", use_sigmoid=True)', FL1)
    (tiny / "other.py").write_text(grid)
    flags = ("--grid", "other.py", "--config", "config.py", "--work-dir", "new", "--reuse", "work")
    planned = json.loads(sweep(*flags, "--dry-run", "--json").stdout)
    assert [trial["state"] for trial in planned["trials"]] == ["pending", "reusable"]
    assert planned["estimate"]["trials"] == 1

    done = sweep(*flags)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "taken over from work: 1 of 2 trials" in done.stdout
    assert "1 trials to run" in done.stdout
    ours, taken = sweep_states(tiny / "new")[1]
    origin = sweep_states(tiny / "work")[1][1]
    assert not ours.record.taken_from
    assert taken.record.taken_from["work_dir"] == "work"
    assert taken.record.metrics == origin.record.metrics
    assert damaged_files(taken.folder, taken.record) == []
    report = (tiny / "reports" / "new" / "README.md").read_text()
    assert "1 from sweep work (`work`), by `python" in report
    assert "1 of 2 trials were taken over from other sweeps" in report

    written = {p: p.stat().st_mtime_ns for p in (tiny / "new").rglob("*") if p.is_file()}
    assert "are done" in sweep(*flags).stdout
    assert {p: p.stat().st_mtime_ns for p in (tiny / "new").rglob("*") if p.is_file()} == written

    # Nothing is left to submit, so this needs no Slurm.
    slurm = sweep(*FLAGS[:-1], "again", "--reuse", "new", "work", "--launcher", "slurm")
    assert slurm.returncode == 0, slurm.stdout + slurm.stderr
    assert "2 finished" in slurm.stdout

    refused = sweep(*FLAGS[:-1], "more", "--reuse", "nowhere")
    assert refused.returncode == 2
    assert refused.stderr.splitlines() == [
        "sweep.py: error: --reuse nowhere: it does not exist",
    ]
