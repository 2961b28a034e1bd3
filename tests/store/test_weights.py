"""Pretrained weights in a plan: known by what is in the file, refused where that is not sure."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ablations.store.files import sha256
from ablations.store.weights import content, described
from ablations.sweep.grid import parse_grid, read_grid
from ablations.sweep.plan import load_config, override, plan

CONFIG = "configs/retinanet_r18_digits.py"
CHECKPOINT = "model.backbone.init_cfg.checkpoint"
REPOSITORY = Path(__file__).parents[2]


def first_id(config: dict, path: str, checkpoint: str) -> str:
    return next(
        plan(override(config, path, checkpoint), parse_grid(*read_grid("gamma_alpha")), [0])
    ).id


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    (tmp_path / "a.pth").write_bytes(b"one")
    return tmp_path / "a.pth"


@pytest.mark.parametrize("path", [CHECKPOINT, "load_from"])
def test_an_id_follows_the_content_and_not_the_path(weights: Path, path: str) -> None:
    config = load_config(CONFIG)
    before = first_id(config, path, str(weights))
    elsewhere = weights.parent / "b" / "c.pth"
    elsewhere.parent.mkdir()
    weights.rename(elsewhere)
    assert first_id(config, path, str(elsewhere)) == before
    elsewhere.write_bytes(b"two")
    assert first_id(config, path, str(elsewhere)) != before


def test_weights_of_a_model_zoo_are_known_by_their_name() -> None:
    config = load_config("configs/retinanet_r50_coco_600.py")
    trial = next(plan(config, parse_grid(*read_grid("gamma_alpha")), [0]))
    backbone = trial.identity["model"]["backbone"]
    assert backbone["init_cfg"]["checkpoint"] == "torchvision://resnet50"
    assert described("torchvision://resnet50") == "torchvision://resnet50"


def test_a_missing_and_a_changed_file_are_refused(weights: Path) -> None:
    note = weights.with_suffix(".json")
    note.write_text(json.dumps({"sha256": sha256(weights)}))
    assert content(str(weights)) == f"sha256:{sha256(weights)}"
    assert described(str(weights)) == f"a.pth, SHA-256 {sha256(weights)[:12]}"
    weights.write_bytes(b"two")
    with pytest.raises(ValueError, match=r"a\.pth have changed.*as a\.json says"):
        content(str(weights))
    weights.unlink()
    with pytest.raises(ValueError, match=r"a\.pth are missing"):
        content(str(weights))
    note.unlink()
    weights.write_bytes(b"two")  # weights of one's own, without a note
    assert content(str(weights)) == f"sha256:{sha256(weights)}"


@pytest.mark.parametrize("launcher", ["local", "slurm"])
def test_a_sweep_that_begins_from_no_file_is_refused_in_one_line(
    tmp_path: Path, launcher: str
) -> None:
    command = [sys.executable, str(REPOSITORY / "runners" / "sweep.py"), "--grid", "gamma_alpha"]
    command += ["--config", str(REPOSITORY / CONFIG), "--launcher", launcher]
    done = subprocess.run(
        [*command, "--cfg-options", f"{CHECKPOINT}=none.pth"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "sweep.py: error: the pretrained weights none.pth are missing: there is no such file"
    ]
    assert list(tmp_path.iterdir()) == []


def test_the_weights_that_ship_are_those_that_their_notes_describe() -> None:
    found = sorted((REPOSITORY / "configs" / "pretrained").glob("*.pth"))
    assert [path.stem for path in found] == ["digits_r18", "digits_r34"]
    for path in found:
        assert json.loads(path.with_suffix(".json").read_text())["sha256"] == sha256(path)
        assert path.stat().st_size < 1_000_000
