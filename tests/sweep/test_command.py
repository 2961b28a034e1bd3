"""What a command accepts, also when it continues a sweep, and its cost estimate."""

from pathlib import Path

import pytest

from ablations.store.files import write_json
from ablations.store.manifest import trial_folder
from ablations.store.record import Record, write_record
from ablations.sweep import cli
from ablations.sweep.errors import UsageError
from ablations.sweep.request import Request, check_continues
from ablations.sweep.work_dir import write_sweep


def request(folder: Path, *flags: str) -> tuple[Request, str]:
    """What a command asks for, and its headline."""
    args = cli.parse(["--grid", "gamma_alpha", "--work-dir", str(folder / "work"), *flags])
    asked = cli.resolve(args)
    return asked, cli.headline(args, asked)


def begin(folder: Path, asked: Request) -> None:
    """Write the sweep's folder."""
    annotations = folder / "val.json"
    write_json(annotations, {})
    part = {"file": str(annotations), "annotations": "0"}
    write_sweep(asked, {"train": part, "val": part}, ["the command"])


def test_an_option_that_is_a_tuple_is_the_same_the_second_time(tmp_path: Path) -> None:
    option = ("--cfg-options", "optim_wrapper.optimizer.betas=(0.8,0.99)")
    asked, _ = request(tmp_path, *option)
    begin(tmp_path, asked)
    check_continues(asked)
    with pytest.raises(UsageError, match=r"betas.*\[0\.8, 0\.99\] -> \[0\.7, 0\.99\]"):
        check_continues(request(tmp_path, option[0], option[1].replace("0.8", "0.7"))[0])


def test_more_seeds_are_expected_to_cost_what_the_others_did(tmp_path: Path) -> None:
    asked, before = request(tmp_path, "--seeds", "1")
    assert "assumes" in before
    begin(tmp_path, asked)
    trial = asked.trials[0]
    record = Record(trial.id, "work", {}, "x", 1, "finished", timings={"device_s": 450.0})
    write_record(trial_folder(asked.work_dir, trial.id), record)
    _, other_seed = request(tmp_path, "--seeds", "2", "--workers", "1")
    assert "16 trials to run: about 2.00 device-hours" in other_seed
    assert "median of 1 finished trials of this sweep" in other_seed


def test_a_trial_gets_no_more_gpus_than_there_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """torch would find a GPU named twice, and use none at all."""
    flags = ["--grid", "gamma_alpha", "--gpus-per-trial", "4"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    with pytest.raises(SystemExit, match="2"):
        cli.parse(flags)
    assert "--gpus-per-trial is 4; this machine has 2" in capsys.readouterr().err
    assert cli.parse([*flags, "--dry-run"]).gpus_per_trial == 4
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert cli.parse(flags).gpus_per_trial == 4  # processes on the CPU
