"""A record is believed only if every field is of its kind."""

from pathlib import Path
from typing import Any

import pytest

from ablations.commands.status import main
from ablations.store.files import read_json, write_json
from ablations.store.record import RECORD, DamagedRecordError, read_record
from tests.helpers.fabricated import Plan, fabricate


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("reason", [None]),
        ("reason", True),
        ("label", 3),
        ("attempts", [None]),
        ("versions", {"torch": None}),
        ("metrics", {"AP": "50"}),
        ("seed", "0"),
    ],
)
def test_a_field_of_another_kind_is_damage(tmp_path: Path, name: str, value: Any) -> None:
    work_dir = fabricate(tmp_path / "work", Plan(points=[{"loss": "CE"}], seeds=(0,), files=False))
    [path] = work_dir.glob(f"trials/*/{RECORD}")
    assert read_record(path.parent) is not None
    write_json(path, read_json(path) | {name: value})
    with pytest.raises(DamagedRecordError, match=f"no record: {name} is"):
        read_record(path.parent)
    assert main([str(work_dir)]) in (1, 2)  # and no traceback
