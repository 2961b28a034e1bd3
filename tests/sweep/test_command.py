"""What a command accepts, also when it continues a sweep, and its cost estimate."""

from pathlib import Path

import pytest

from ablations.commands.sweep import TRAINING
from ablations.store.files import write_json
from ablations.store.manifest import read_manifest, trial_folder
from ablations.store.record import Record, write_record
from ablations.sweep import cli
from ablations.sweep.errors import UsageError
from ablations.sweep.request import Request, check_continues
from ablations.sweep.work_dir import update_manifest, write_sweep


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


def own_loss(folder: Path) -> tuple[str, ...]:
    """A config in ``folder`` that imports a loss from there; returns the flag."""
    (folder / "my_own_loss.py").write_text("scale = 1\n")
    base = Path("configs/retinanet_r18_digits.py").resolve()
    (folder / "config.py").write_text(
        f'_base_ = ["{base}"]\n'
        'custom_imports = dict(imports=["ablations.training", "my_own_loss"])\n'
    )
    return ("--config", str(folder / "config.py"))


@pytest.mark.parametrize("seeds", [(), ("--seeds", "0", "1"), ("--seeds", "7")])
def test_an_edited_loss_is_not_the_sweep_that_has_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seeds: tuple[str, ...]
) -> None:
    """Not even where new seeds alone are asked for: they would be averaged with the old ones."""
    flag = own_loss(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    begin(tmp_path, request(tmp_path, *flag)[0])
    check_continues(request(tmp_path, *flag, *seeds)[0])
    (tmp_path / "my_own_loss.py").write_text("scale = 2\n")
    with pytest.raises(UsageError, match=r"other settings \(code\.my_own_loss: '\w+' -> '\w+'\)"):
        check_continues(request(tmp_path, *flag, *seeds)[0])


@pytest.mark.parametrize("key", ["title", "note", "baseline"])
def test_what_a_grid_says_of_itself_arrives_in_a_sweep_that_is_done(
    tmp_path: Path, key: str
) -> None:
    grid = tmp_path / "gamma_alpha.py"
    loss = "dict(type='ablations.FocalLoss', gamma='$gamma', alpha=0.25, use_sigmoid=True)"
    text = (
        f"blocks = [dict(product=dict(gamma=[1, 2]), set={{'model.bbox_head.loss_cls': {loss}}})]"
    )
    grid.write_text(text)
    asked, _ = request(tmp_path, "--grid", str(grid))
    begin(tmp_path, asked)
    assert not update_manifest(asked)
    before = read_manifest(asked.work_dir)
    grid.write_text(f"{text}\n{key} = 'gamma=2'\n")
    changed, _ = request(tmp_path, "--grid", str(grid))
    check_continues(changed)
    assert update_manifest(changed)
    after = read_manifest(asked.work_dir)
    assert "gamma=2" in after.grid[key]
    assert (after.trials, after.commands) == (before.trials, before.commands)
    assert not update_manifest(changed)


def test_slurm_settings_are_found_here_first_and_then_those_shipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def minutes() -> float:
        args = cli.parse(["--grid", "gamma_alpha", "--launcher", "slurm"])
        return cli.make_launcher(args, TRAINING, []).settings.minutes

    shipped = minutes()
    monkeypatch.chdir(tmp_path)
    assert minutes() == shipped
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "slurm.toml").write_text("time = '7'\n")
    assert minutes() == 7 != shipped
