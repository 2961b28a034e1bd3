"""Torn and flipped bytes in every kind of file: set aside, told, and built or run again."""

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ablations.commands import status, trial
from ablations.store.files import sha256
from ablations.store.lease import LEASE, Lease
from ablations.store.manifest import MANIFEST, read_manifest, trial_folder
from ablations.store.record import CONFIG, CURVE, RECORD, TRIAL
from ablations.store.states import sweep_states
from ablations.store.status import STATUS, read_status, update_status
from ablations.sweep.errors import UsageError
from ablations.sweep.repair import repair
from ablations.sweep.request import Request, check_continues
from ablations.sweep.work_dir import update_manifest
from tests.sweep.test_reuse import by_label, data, request, train, write

DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "torn": lambda content: content[: len(content) // 2],
    "flipped": lambda content: content[:7] + bytes([content[7] ^ 0xFF]) + content[8:],
    "zeros": lambda content: bytes(len(content)),
    "another value": lambda content: b"[1]",
}
damaged = pytest.mark.parametrize("damage", DAMAGE.values(), ids=list(DAMAGE))


@pytest.fixture
def asked(tmp_path: Path) -> Request:
    """A sweep of gamma 1 and 2, trained."""
    asked = request(tmp_path / "work", [1, 2])
    write(asked, data(tmp_path / "data"))
    train(asked.work_dir)
    for state in sweep_states(asked.work_dir)[1]:
        digest = sha256(state.folder / RECORD)
        update_status(state.folder, state="finished", attempts=[], record=digest)
    return asked


def first(asked: Request) -> Path:
    return trial_folder(asked.work_dir, asked.trials[0].id)


def spoil(path: Path, damage: Callable[[bytes], bytes]) -> None:
    path.write_bytes(damage(path.read_bytes()))


def repaired(asked: Request) -> list[str]:
    """What the command says when it is given again, up to the training."""
    told: list[str] = []
    check_continues(asked)
    with Lease(asked.work_dir):
        repair(asked, told.append)
        if any(state.record is None for state in asked.states()):
            told += write(asked, data(asked.work_dir.parent / "data"))
        else:
            update_manifest(asked)
    return told


def test_a_whole_sweep_is_left_as_it_is(asked: Request) -> None:
    before = {path: path.stat().st_mtime_ns for path in asked.work_dir.rglob("*")}
    with Lease(asked.work_dir.parent / "elsewhere"):
        repair(asked, pytest.fail)
    assert {path: path.stat().st_mtime_ns for path in asked.work_dir.rglob("*")} == before


@damaged
def test_a_damaged_record_is_set_aside_and_its_trial_runs_again(asked: Request, damage) -> None:
    spoil(first(asked) / RECORD, damage)
    assert by_label(asked.work_dir) == {"gamma=1": "damaged", "gamma=2": "finished"}
    (line,) = repaired(asked)
    assert line.startswith(f"gamma=1 seed 0 ({asked.trials[0].id}) runs again, its record is now ")
    assert (first(asked) / "record-damaged-1.json").is_file()
    assert by_label(asked.work_dir) == {"gamma=1": "interrupted", "gamma=2": "finished"}


def test_a_changed_digit_of_a_record_is_damage_too(asked: Request) -> None:
    path = first(asked) / RECORD
    path.write_text(path.read_text().replace("40.0", "90.0"))
    (line,) = repaired(asked)
    assert "record.json is not what was written" in line
    assert by_label(asked.work_dir)["gamma=1"] == "interrupted"


@damaged
def test_a_damaged_result_is_set_aside_with_its_record(asked: Request, damage) -> None:
    spoil(first(asked) / CURVE, damage)
    (line,) = repaired(asked)
    assert "curve.npz is not what was written" in line
    assert {"curve-damaged-1.npz", "record-damaged-1.json"} <= {
        path.name for path in first(asked).iterdir()
    }
    assert by_label(asked.work_dir)["gamma=1"] == "interrupted"


def test_a_result_that_somebody_has_removed_is_no_damage(asked: Request) -> None:
    (first(asked) / CURVE).unlink()
    assert repaired(asked) == []
    assert set(by_label(asked.work_dir).values()) == {"finished"}


def test_a_record_of_a_later_version_is_not_touched(asked: Request) -> None:
    path = first(asked) / RECORD
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema_version": 99}))
    with pytest.raises(UsageError, match="schema_version 99"):
        repair(asked)
    assert path.is_file()


@damaged
def test_a_damaged_plan_and_config_are_written_again(asked: Request, damage) -> None:
    (first(asked) / RECORD).unlink()
    kept = {name: (first(asked) / name).read_bytes() for name in (TRIAL, CONFIG)}
    for name in kept:
        spoil(first(asked) / name, damage)
    (line,) = repaired(asked)
    assert line.endswith("trial.json is damaged and now trial-damaged-1.json")
    assert {name: (first(asked) / name).read_bytes() for name in kept} == kept


@damaged
def test_a_damaged_manifest_is_built_again(asked: Request, tmp_path: Path, damage) -> None:
    write(request(asked.work_dir, [3]), data(tmp_path / "data"))
    before = read_manifest(asked.work_dir)
    assert before is not None
    spoil(asked.work_dir / MANIFEST, damage)
    (line,) = repaired(asked)
    assert line.endswith(
        "manifest.json is damaged and now manifest-damaged-1.json; it is built again"
    )
    after = read_manifest(asked.work_dir)
    assert after is not None and after.commands
    assert after.trials == before.trials  # gamma=3, which this command did not ask for, is back
    assert repaired(asked) == []


def test_a_command_killed_while_it_built_the_manifest_again_goes_on(asked: Request) -> None:
    (asked.work_dir / MANIFEST).rename(asked.work_dir / "manifest-damaged-1.json")
    assert repaired(asked) == []
    assert read_manifest(asked.work_dir) is not None


@damaged
def test_another_command_does_not_take_a_damaged_sweep_over(
    asked: Request, tmp_path: Path, damage
) -> None:
    spoil(asked.work_dir / MANIFEST, damage)
    with pytest.raises(UsageError, match="none of this command's"):
        repaired(request(asked.work_dir, [5]))
    assert (asked.work_dir / MANIFEST).is_file()


@damaged
def test_a_damaged_status_costs_what_it_said(asked: Request, damage) -> None:
    (first(asked) / RECORD).unlink()
    update_status(first(asked), state="training", iteration=7, iterations=9, iteration_s=1.0)
    spoil(first(asked) / STATUS, damage)
    (state, _) = sweep_states(asked.work_dir)[1]
    assert (state.state, state.reason) == ("interrupted", "its status.json was damaged")
    update_status(first(asked), state="starting")
    assert read_status(first(asked)) == {"state": "starting"}
    assert (first(asked) / "status-damaged-1.json").is_file()


@pytest.mark.parametrize("left", [[LEASE], [f".{LEASE}.0", ".clock.1"], ["annotations-0.json"]])
def test_what_a_command_killed_in_its_preflight_leaves_is_no_obstacle(
    tmp_path: Path, left: list[str]
) -> None:
    asked = request(tmp_path / "work", [1])
    asked.work_dir.mkdir()
    for name in left:
        (asked.work_dir / name).write_text("{}")
        os.utime(asked.work_dir / name, (0, 0))
    repaired(asked)
    assert by_label(asked.work_dir) == {"gamma=1": "pending"}
    (asked.work_dir / MANIFEST).unlink()
    with pytest.raises(UsageError, match="is not empty and holds no sweep"):
        check_continues(asked)


FILES = [MANIFEST, LEASE, *(f"trials/*/{name}" for name in (RECORD, STATUS, TRIAL, LEASE, CONFIG))]


@pytest.mark.parametrize("name", FILES)
def test_no_command_ends_with_a_traceback(
    asked: Request, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Bytes changed and cut at random, in one file at a time, with a record and without one."""
    draw = random.Random(name)
    for folder in (asked.work_dir, first(asked)):
        (folder / LEASE).write_text(json.dumps({"host": "h", "pid": 1, "boot": "b", "token": "t"}))
    kept = asked.work_dir.parent / "kept"
    asked.work_dir.rename(kept)
    for attempt in range(12):
        shutil.copytree(kept, asked.work_dir)
        if attempt % 2:
            (first(asked) / RECORD).unlink()
        for path in asked.work_dir.glob(name):
            content = bytearray(path.read_bytes()[: draw.randrange(1, 4000)])
            for _ in range(draw.randrange(3)):
                content[draw.randrange(len(content))] = draw.randrange(256)
            path.write_bytes(bytes(content))
        assert status.main([str(asked.work_dir)]) in (0, 1, 2)
        for path in asked.work_dir.rglob(LEASE):
            os.utime(path, (0, 0))
        try:
            repaired(asked)
        except UsageError as refused:
            assert "\n" not in str(refused)
        shutil.rmtree(asked.work_dir)
    assert "Traceback" not in "".join(capsys.readouterr())


@pytest.mark.parametrize("kind", ["empty", "torn", "flipped", "zeros"])
def test_a_single_trial_with_a_damaged_plan_is_refused_in_one_line(
    asked: Request, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(first(asked) / TRIAL, DAMAGE[kind])
    with pytest.raises(SystemExit, match="2"):
        trial.main([str(first(asked))])
    assert "the sweep's own command writes it again" in capsys.readouterr().err
