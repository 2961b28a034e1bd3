"""W&B's variables are refused where W&B itself would lose every run by them."""

from pathlib import Path

import pytest

from ablations.commands import report
from ablations.store.wandb_names import check, run_id, tag
from ablations.sweep import cli
from ablations.sweep.errors import UsageError

wandb = pytest.importorskip("wandb")


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        ("PROJECT", "team/project", "write WANDB_ENTITY=team WANDB_PROJECT=project"),
        ("PROJECT", "a:b?", "it may have none of : ?"),
        ("PROJECT", "mine\n", r"is 'mine\\n': remove the white space"),
        ("PROJECT", "p" * 129, "128 letters at most"),
        ("ENTITY", "me/you", "WANDB_ENTITY is 'me/you'"),
        ("ENTITY", " me", "remove the white space"),
        ("API_KEY", "secretsecret\n", "WANDB_API_KEY has a space, a line end"),
        ("API_KEY", "secret secret", "WANDB_API_KEY has a space, a line end"),
        ("API_KEY", "secretsecret\r", "WANDB_API_KEY has a space, a line end"),
        ("TAGS", "", "WANDB_TAGS is '': a tag has 1 to 64 letters"),
        ("TAGS", "a,,b", "WANDB_TAGS is 'a,,b'"),
        ("TAGS", "a," + "b" * 65, "a tag has 1 to 64 letters"),
        ("BASE_URL", "api.wandb.ai", "it is an address such as https://api.wandb.ai"),
        ("BASE_URL", "https:// x", "WANDB_BASE_URL"),
    ],
)
def test_what_would_lose_every_run_is_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    tmp_path: Path,
    name: str,
    value: str,
    line: str,
) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv(f"WANDB_{name}", value)
    with pytest.raises(SystemExit, match="2"):
        cli.parse(["--grid", "gamma_alpha"])
    [*_, error] = capsys.readouterr().err.splitlines()
    assert line.replace("\\\\", "\\") in error and "secret" not in error
    assert report.main([str(tmp_path), "--wandb"]) == 2
    assert "secret" not in capsys.readouterr().err
    assert cli.parse(["--grid", "gamma_alpha", "--wandb", "disabled"]).wandb == "disabled"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PROJECT", "my project"),
        ("PROJECT", ""),
        ("ENTITY", "team-1"),
        ("API_KEY", "0123456789" * 4),
        ("API_KEY", "local-" + "0123456789" * 4),
        ("API_KEY", ""),
        ("TAGS", "a,b c"),
        ("BASE_URL", "http://127.0.0.1:8080"),
        ("BASE_URL", "https://wandb.my-company.com/"),
    ],
)
def test_what_wandb_takes_is_taken(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"WANDB_{name}", value)
    check()
    wandb.Settings().update_from_env_vars({f"WANDB_{name}": value})


@pytest.mark.parametrize("sweep", ["", "x" * 100, "a=b", "it's", "a:b;c,d#e?f", " "])
def test_any_sweep_has_ids_and_a_tag_that_wandb_takes(sweep: str) -> None:
    wandb.Settings(run_id=run_id(sweep, "0123456789ab"), run_tags=[tag(sweep)])


def test_a_sweep_in_the_current_folder_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine" / "below").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "mine")
    for folder in (".", "below/.."):
        args = cli.parse(["--grid", "gamma_alpha", "--work-dir", folder])
        assert cli.resolve(args).work_dir == tmp_path / "mine"
    args = cli.parse(["--grid", "gamma_alpha", "--work-dir", "/"])
    with pytest.raises(UsageError, match="--work-dir is /: a sweep needs a folder with a name"):
        cli.resolve(args)
