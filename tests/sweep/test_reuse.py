"""Trials are taken over from other sweeps if they verify."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ablations.store.files import read_json, sha256, write_json
from ablations.store.lease import Lease
from ablations.store.manifest import TRIALS, trial_folder
from ablations.store.record import (
    CHECKPOINT,
    CONFIG,
    CURVE,
    LOG,
    RECORD,
    TRIAL,
    WEIGHTS,
    Record,
    damaged_files,
    read_record,
    write_record,
)
from ablations.store.states import sweep_states
from ablations.store.status import STATUS
from ablations.sweep import cli
from ablations.sweep.errors import UsageError
from ablations.sweep.grid import parse_grid
from ablations.sweep.plan import load_config, plan
from ablations.sweep.request import Request
from ablations.sweep.reuse import REUSABLE, read_sources, with_reusable
from ablations.sweep.work_dir import write_sweep

CONFIG_FILE = "configs/retinanet_r18_digits.py"
GAMMA = "model.bbox_head.loss_cls.gamma"


def request(work_dir: Path, gammas: list[float], *reuse: Path, name: str = "gamma") -> Request:
    """A sweep over gamma; its labels begin with the axis's ``name``."""
    block = {"product": {name: gammas}, "set": {GAMMA: f"${name}"}}
    grid = parse_grid("g", {"blocks": [block]})
    trials = list(plan(load_config(CONFIG_FILE), grid, [0]))
    return Request(grid, CONFIG_FILE, {}, work_dir, trials, read_sources(reuse))


def data(folder: Path, text: str = "{}") -> dict:
    """The result of the data check, for annotations that hold ``text``."""
    folder.mkdir(exist_ok=True)
    found: dict = {"name": "digits", "version": 1, "classes": ["0"]}
    for split in ("train", "val"):
        path = folder / f"{split}.json"
        path.write_text(text)
        found[split] = {"file": str(path), "annotations": sha256(path), "images": 1, "boxes": 1}
    return found


def write(asked: Request, found: dict, command: str = "python runners/sweep.py") -> list[str]:
    """Write the sweep; returns what it prints."""
    told: list[str] = []
    write_sweep(asked, found, [command], told.append)
    return told


def train(work_dir: Path, status: str = "finished") -> None:
    """Write the files of a finished trial into every trial without a record."""
    for state in sweep_states(work_dir)[1]:
        if state.record is not None:
            continue
        folder, trial = state.folder, read_json(state.folder / TRIAL)
        for name in (CURVE, WEIGHTS, LOG, "wandb/run"):
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(f"{name} of {trial['label']}")
        names = (CONFIG, TRIAL, CURVE, WEIGHTS)
        record = Record(
            trial["id"],
            trial["sweep"],
            trial["point"],
            trial["label"],
            trial["seed"],
            status,  # type: ignore[arg-type]
            metrics={"AP": 40.0},
            timings={"device_s": 100.0},
            attempts=[{"started": "2126-05-04T10:00:00+00:00"}],
            data=trial["data"],
            files={name: sha256(folder / name) for name in names},
        )
        write_record(folder, record)


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A trained sweep of gamma 1 and 2."""
    write(request(tmp_path / "old", [1, 2]), data(tmp_path / "data"), "python first.py")
    train(tmp_path / "old")
    return tmp_path / "old"


def by_label(work_dir: Path) -> dict[str, str]:
    return {state.entry.label: state.state for state in sweep_states(work_dir)[1]}


def tree(folder: Path) -> dict[Path, tuple[int, int]]:
    return {p: (p.stat().st_mtime_ns, p.stat().st_ino) for p in folder.rglob("*") if p.is_file()}


def test_shared_cells_are_taken_and_the_others_left_to_train(tmp_path: Path, old: Path) -> None:
    before = tree(old)
    new = request(tmp_path / "new", [2, 3], old, name="focusing")
    moved = data(tmp_path / "elsewhere")
    assert write(new, moved) == [f"taken over from {old}: 1 of 2 trials that are not done"]
    assert by_label(tmp_path / "new") == {"focusing=2": "finished", "focusing=3": "pending"}
    state = sweep_states(tmp_path / "new")[1][0]
    record, folder = state.record, state.folder
    assert record is not None
    assert (record.sweep, record.label, record.point) == ("new", "focusing=2", {"focusing": 2})
    assert record.data == moved
    assert record.taken_from == {"sweep": "old", "work_dir": "old", "command": "python first.py"}
    assert damaged_files(folder, record) == []
    assert (folder / WEIGHTS).read_text() == f"{WEIGHTS} of gamma=2"
    assert (folder / LOG).read_text() == f"{LOG} of gamma=2"
    assert not (folder / "wandb").exists()  # the other sweep's run
    assert read_json(folder / TRIAL)["sweep"] == "new"
    assert tree(old) == before
    assert not {inode for _, inode in tree(folder).values()} & {i for _, i in before.values()}

    written = tree(tmp_path / "new" / TRIALS)
    assert write(new, moved) == [f"taken over from {old}: 0 of 1 trials that are not done"]
    assert tree(tmp_path / "new" / TRIALS) == written


def test_a_diverged_trial_is_taken_and_a_failed_one_is_not(tmp_path: Path) -> None:
    found = data(tmp_path / "data")
    for status in ("diverged", "failed"):
        write(request(tmp_path / status, [1]), found)
        train(tmp_path / status, status)
        told = write(request(tmp_path / f"new-{status}", [1], tmp_path / status), found)
        assert len(told) == 1
    assert by_label(tmp_path / "new-diverged") == {"gamma=1": "diverged"}
    assert by_label(tmp_path / "new-failed") == {"gamma=1": "pending"}


def test_a_trial_that_was_taken_names_the_sweep_that_trained_it(tmp_path: Path, old: Path) -> None:
    found = data(tmp_path / "data")
    write(request(tmp_path / "second", [1], old), found)
    write(request(tmp_path / "third", [1], tmp_path / "second"), found)
    record = sweep_states(tmp_path / "third")[1][0].record
    assert record is not None and record.sweep == "third"
    assert record.taken_from["sweep"] == record.taken_from["work_dir"] == "old"


def _edit(name: str, change: Callable[[dict], object]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        value = read_json(folder / name)
        change(value)
        write_json(folder / name, value)

    return edit


def _other_experiment(value: dict) -> None:
    value["identity"]["model"]["bbox_head"]["loss_cls"]["gamma"] = 5.0


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "changed": (lambda folder: (folder / WEIGHTS).write_text("x"), f"{WEIGHTS} missing or damaged"),
    "missing": (lambda folder: (folder / CURVE).unlink(), f"{CURVE} missing or damaged"),
    "identity": (_edit(TRIAL, _other_experiment), "has another id"),
    "no identity": (lambda folder: (folder / TRIAL).unlink(), "has another id"),
    "id": (_edit(RECORD, lambda value: value.update(trial_id="x")), "that of trial x"),
    "train": (
        _edit(RECORD, lambda value: value["data"]["train"].update(annotations="x")),
        "its train annotations are not those of this sweep",
    ),
    "val": (
        _edit(RECORD, lambda value: value["data"]["val"].update(annotations="x")),
        "its val annotations are not those of this sweep",
    ),
    "outside": (
        _edit(RECORD, lambda value: value["files"].update({"../../x": "0"})),
        "lists ../../x, which is not in its folder",
    ),
    "schema": (_edit(RECORD, lambda value: value.update(schema_version=9)), "schema_version 9"),
    "not JSON": (lambda folder: (folder / RECORD).write_text("{"), "is not valid JSON"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_does_not_verify_is_not_taken_and_leaves_nothing(
    tmp_path: Path, old: Path, damage: str
) -> None:
    spoil, why = DAMAGE[damage]
    new = request(tmp_path / "new", [1], old)
    spoil(trial_folder(old, new.trials[0].id))
    told = write(new, data(tmp_path / "data"))
    assert len(told) == 2
    assert told[0].startswith(f"not taken from {old}: gamma=1 seed 0 ({new.trials[0].id}): ")
    assert why in told[0] and "\n" not in told[0]
    assert by_label(tmp_path / "new") == {"gamma=1": "pending"}
    folder = trial_folder(tmp_path / "new", new.trials[0].id)
    assert sorted(path.name for path in folder.iterdir()) == [CONFIG, TRIAL]
    assert list((tmp_path / "new" / TRIALS).iterdir()) == [folder]


def test_another_source_is_asked_where_the_first_does_not_verify(tmp_path: Path, old: Path) -> None:
    shutil.copytree(old, tmp_path / "copy")
    new = request(tmp_path / "new", [1], old, tmp_path / "copy")
    (trial_folder(old, new.trials[0].id) / WEIGHTS).unlink()
    assert write(new, data(tmp_path / "data"))[0].startswith("not taken from")
    assert by_label(tmp_path / "new") == {"gamma=1": "finished"}


def test_a_trial_that_was_begun_is_taken_and_one_at_work_is_left_alone(
    tmp_path: Path, old: Path
) -> None:
    found = data(tmp_path / "data")
    new = request(tmp_path / "new", [1, 2])
    write(new, found)
    begun, busy = (trial_folder(tmp_path / "new", trial.id) for trial in new.trials)
    for folder in (begun, busy):
        write_json(folder / STATUS, {"state": "training", "iteration": 3})
        (folder / CHECKPOINT).write_text("half-way")
        (folder / "record-failed-1.json").write_text("{}")
    with Lease(busy):
        write(replace(new, sources=read_sources([old])), found)
    assert by_label(tmp_path / "new") == {"gamma=1": "finished", "gamma=2": "interrupted"}
    assert not (begun / CHECKPOINT).exists()
    assert (begun / "record-failed-1.json").exists()
    assert (busy / CHECKPOINT).read_text() == "half-way"


def test_a_dry_run_shows_what_would_be_taken_and_leaves_it_out_of_the_cost(
    tmp_path: Path, old: Path
) -> None:
    grid = tmp_path / "grid.py"
    block = {"product": {"gamma": [1, 2, 3]}, "set": {GAMMA: "$gamma"}}
    grid.write_text(f"blocks = [{block!r}]\n")
    flags = ["--grid", str(grid), "--work-dir", str(tmp_path / "new"), "--dry-run", "--json"]
    args = cli.parse(flags)
    asked = replace(cli.resolve(args), sources=read_sources([old]))
    states = with_reusable(asked.states(), asked.sources, {})
    assert [state.state for state in states] == [REUSABLE, REUSABLE, "pending"]
    assert cli.cost(args, asked, states).trials == 1
    wrong = with_reusable(asked.states(), asked.sources, {"train": "another"})
    assert {state.state for state in wrong} == {"pending"}
    assert not (tmp_path / "new").exists()


def test_a_directory_without_a_sweep_is_refused(tmp_path: Path, old: Path) -> None:
    (tmp_path / "empty").mkdir()
    flags = [
        "--grid",
        "gamma_alpha",
        "--reuse",
        str(old),
        *(str(tmp_path / n) for n in ("a", "empty")),
    ]
    with pytest.raises(UsageError) as refused:
        cli.resolve(cli.parse(flags))
    assert str(refused.value) == (
        f"--reuse {tmp_path / 'a'}: it does not exist; "
        f"--reuse {tmp_path / 'empty'}: it holds no sweep"
    )


def test_a_record_of_before_can_still_be_read(tmp_path: Path, old: Path) -> None:
    folder = next((old / TRIALS).iterdir())
    value = json.loads((folder / RECORD).read_text())
    del value["taken_from"]
    write_json(folder / RECORD, value | {"schema_version": 1})
    record = read_record(folder)
    assert record is not None and record.taken_from == {}


def test_a_dry_run_compares_the_files_as_found_and_a_sweep_what_was_trained_on(
    tmp_path: Path,
) -> None:
    """A mended file's checksum is not that of the file it was made from."""
    mended = data(tmp_path / "data")
    for split in ("train", "val"):
        mended[split] |= {"source": f"{split} as found", "annotations": f"{split} as mended"}
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "annotations-val as mended.json").write_text("{}")
    write(request(tmp_path / "old", [1]), mended)
    train(tmp_path / "old")
    new = request(tmp_path / "new", [1], tmp_path / "old")
    for checksums, state in (("as found", REUSABLE), ("as mended", "pending")):
        found = {split: f"{split} {checksums}" for split in ("train", "val")}
        (shown,) = with_reusable(new.states(), new.sources, found)
        assert shown.state == state
    assert "taken over" in write(new, mended)[-1]
    assert by_label(tmp_path / "new") == {"gamma=1": "finished"}
