"""W&B's mode, from the command line and the environment."""

from pathlib import Path

import pytest

from ablations.commands import report
from ablations.commands.sweep import TRAINING, report_command
from ablations.sweep import cli


@pytest.mark.parametrize(
    ("flag", "variable", "expected"),
    [
        (None, None, "offline"),
        (None, "online", "online"),
        (None, "disabled", "disabled"),
        (None, "", "offline"),
        ("offline", "onlin", "offline"),
        ("offline", "online", "offline"),
        ("online", "disabled", "online"),
    ],
)
def test_on_slurm_the_last_job_sends_if_and_only_if_online_was_asked_for(
    monkeypatch: pytest.MonkeyPatch, flag: str | None, variable: str | None, expected: str
) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    if variable is not None:
        monkeypatch.setenv("WANDB_MODE", variable)
    flags = ["--grid", "gamma_alpha", "--launcher", "slurm", *(["--wandb", flag] if flag else [])]
    args = cli.parse(flags)
    assert args.wandb == expected
    command = report_command(Path("work_dirs/gamma_alpha"), args.wandb)
    assert list(cli.make_launcher(args, TRAINING, command).report) == command
    assert command[1:4] == ["-m", "ablations.commands.report", "work_dirs/gamma_alpha"]
    assert ("--wandb" in command) == (expected == "online")


def test_a_misspelt_mode_is_refused_with_the_valid_ones(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    monkeypatch.setenv("WANDB_MODE", "onlin")
    with pytest.raises(SystemExit, match="2"):
        cli.parse(["--grid", "gamma_alpha"])
    expected = "error: WANDB_MODE is 'onlin'; valid: offline, online, disabled"
    assert expected in capsys.readouterr().err
    assert report.main([str(tmp_path), "--wandb"]) == 2
    assert expected in capsys.readouterr().err
