"""Slurm settings are checked before anything is submitted; no Slurm is needed for that."""

from pathlib import Path

import pytest

from ablations.sweep.errors import UsageError
from ablations.sweep.launchers.slurm.settings import Settings, load_settings

SHIPPED = Path(__file__).parents[2] / "configs/slurm.toml"


def test_the_shipped_file_is_valid_and_names_every_key() -> None:
    load_settings(SHIPPED, {})
    text = SHIPPED.read_text()
    assert [key for key in Settings.__dataclass_fields__ if f"{key} = " not in text] == []


def test_options_go_over_the_file(tmp_path: Path) -> None:
    path = tmp_path / "slurm.toml"
    path.write_text('partition = "gpu"\ntime = "1-12"\nextra = ["--exclusive"]\n')
    found = load_settings(path, {"partition": "debug", "cpus_per_process": 8, "time": 90})
    assert found == Settings(
        partition="debug", time="90", cpus_per_process=8, extra=["--exclusive"]
    )


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        ("90", 90),
        ("1:30", 1.5),
        ("2:00:00", 120),
        ("1-12", 2160),
        ("0-1:30", 90),
        ("1-00:00:30", 1440.5),
    ],
)
def test_slurms_time_formats(text: str, minutes: float) -> None:
    assert Settings(time=text).minutes == minutes


def test_everything_wrong_is_named_at_once() -> None:
    options = {"partitoin": "gpu", "nodes": 0, "mem": 3.5, "time": "soon", "extra": "reservation=x"}
    with pytest.raises(UsageError) as caught:
        load_settings(None, options)
    message = str(caught.value)
    for part in (
        "no Slurm setting named 'partitoin'",
        "did you mean partition?",
        "nodes is 0",
        "mem is 3.5; it must be text",
        "extra has 'reservation=x'",
    ):
        assert part in message
    with pytest.raises(UsageError, match="time is 'soon'"):
        load_settings(None, {"time": "soon"})
    with pytest.raises(UsageError, match="no trial would ever run"):
        load_settings(None, {"time": "1", "signal_seconds": 90})


def test_extra_lines_of_another_kind_are_named() -> None:
    with pytest.raises(UsageError, match="extra is 0; it must be"):
        load_settings(None, {"extra": 0})
