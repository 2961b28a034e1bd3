"""Files are data: one that holds code is refused, and the code does not run."""

import ast
import json
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ablations.store.arrays import read_arrays
from ablations.store.record import CHECKPOINT, RECORD, DamagedRecordError, read_record
from ablations.sweep.errors import UsageError
from ablations.sweep.plan import parse_options
from ablations.training.checkpoint import usable_checkpoint
from ablations.training.data_only import load_data_only
from ablations.training.weights import missing_weights

PACKAGE = Path(__file__).parents[2] / "ablations"


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.fixture
def bomb(tmp_path: Path) -> Any:
    """Such an object; afterwards its code must not have run."""
    crater = tmp_path / "crater"
    pickle.loads(pickle.dumps(Bomb(crater)))  # it works
    crater.rmdir()
    yield Bomb(crater)
    assert not crater.exists()


@pytest.mark.parametrize("old_format", [False, True])
def test_a_checkpoint_with_code_is_set_aside(tmp_path: Path, bomb: Bomb, old_format: bool) -> None:
    path = tmp_path / CHECKPOINT
    torch.save(
        {"state_dict": {"w": torch.zeros(1)}, "meta": bomb},
        path,
        _use_new_zipfile_serialization=not old_format,
    )
    said: list[str] = []
    assert usable_checkpoint(tmp_path, said.append) is None
    assert len(said) == 1 and CHECKPOINT in said[0]
    assert not path.exists()


def test_downloaded_weights_with_code_are_refused(
    tmp_path: Path, bomb: Bomb, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch.hub itself would run what is in its cache."""
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path), raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    cache = Path(torch.hub.get_dir()) / "checkpoints"
    cache.mkdir(parents=True)
    torch.save({"w": bomb}, cache / "weights-00000000.pth")
    init = {"type": "Pretrained", "checkpoint": "https://example.org/weights-00000000.pth"}
    [line] = missing_weights([{"model": {"backbone": {"init_cfg": init}}}])
    assert "weights-00000000.pth" in line


def test_weights_of_ones_own_with_code_are_refused(tmp_path: Path, bomb: Bomb) -> None:
    from mmengine.runner.checkpoint import CheckpointLoader

    torch.save({"state_dict": bomb}, tmp_path / "weights.pth")
    with pytest.raises(pickle.UnpicklingError):
        CheckpointLoader.load_checkpoint(str(tmp_path / "weights.pth"), map_location="cpu")


def test_a_variable_that_would_let_torch_run_code_is_removed(
    bomb: Bomb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD", raising=False)
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    load_data_only()
    torch.save(bomb, tmp_path / "weights.pth")
    for options in ({}, {"weights_only": False}):
        with pytest.raises(pickle.UnpicklingError):
            torch.load(tmp_path / "weights.pth", **options)


def test_arrays_with_code_are_refused(tmp_path: Path, bomb: Bomb) -> None:
    path = tmp_path / "curve.npz"
    np.savez(path, loss=np.array([bomb], dtype=object))
    with pytest.raises(ValueError, match=r"curve\.npz cannot be read"):
        read_arrays(path, ["loss"])
    path.write_bytes(pickle.dumps(bomb))
    with pytest.raises(ValueError, match=r"curve\.npz cannot be read"):
        read_arrays(path, ["loss"])
    with zipfile.ZipFile(path, "w") as made:
        made.writestr("loss.npy", pickle.dumps(bomb))
    with pytest.raises(ValueError, match=r"curve\.npz cannot be read"):
        read_arrays(path, ["loss"])


def test_a_record_is_no_pickle_and_its_text_is_no_code(tmp_path: Path, bomb: Bomb) -> None:
    (tmp_path / RECORD).write_bytes(pickle.dumps(bomb))
    with pytest.raises(DamagedRecordError):
        read_record(tmp_path)
    text = f"__import__('os').mkdir({str(bomb.path)!r})"
    (tmp_path / RECORD).write_text(json.dumps({"schema_version": text, "status": text}))
    with pytest.raises(DamagedRecordError):
        read_record(tmp_path)


def test_options_are_literals(bomb: Bomb) -> None:
    call = f"__import__('os').mkdir({str(bomb.path)!r})"
    assert parse_options([f"a={call}"]) == {"a": call}
    with pytest.raises(UsageError, match="is a set"):
        parse_options(["a={1, 2}"])


def test_nothing_in_the_package_evaluates_or_unpickles_what_it_reads() -> None:
    found = []
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = {alias.name.partition(".")[0] for alias in node.names}
                names.add((getattr(node, "module", None) or "").partition(".")[0])
                found += [(path.name, name) for name in names & {"pickle", "marshal", "shelve"}]
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            keywords = {word.arg: ast.unparse(word.value) for word in node.keywords}
            unsafe = called in ("eval", "exec", "yaml.load", "yaml.unsafe_load")
            unsafe |= called == "torch.load" and keywords.get("weights_only") != "True"
            unsafe |= keywords.get("allow_pickle", "False") != "False"
            unsafe |= keywords.get("shell", "False") != "False"
            if unsafe:
                found.append((path.name, ast.unparse(node)))
    assert found == []
