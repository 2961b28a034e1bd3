"""A trial reads the sweep's checked annotations, and only while they are what it was planned on."""

from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config

from ablations.store.files import sha256
from ablations.training.checked_data import refuse_other_data, use_checked


def config() -> Config:
    return Config(
        dict(
            train_dataloader=dict(dataset=dict(dataset=dict(ann_file="train.json"))),
            val_dataloader=dict(dataset=dict(ann_file="val.json")),
            val_evaluator=dict(type="BoxAP", ann_file="data/val.json"),
        )
    )


@pytest.fixture
def data(tmp_path: Path) -> dict[str, Any]:
    """The record's data of a sweep in ``work``, with its files."""
    (tmp_path / "work").mkdir()
    found: dict[str, Any] = {"name": "own"}
    for split in ("train", "val"):
        source, draft = tmp_path / f"{split}.json", tmp_path / "draft"
        source.write_text(f"{split} as it was")
        draft.write_text(f"{split} mended")
        digest = sha256(draft)
        draft.rename(tmp_path / "work" / f"annotations-{digest}.json")
        found[split] = {"file": str(source), "source": sha256(source), "annotations": digest}
    return found


def test_data_sets_and_evaluator_read_the_checked_files(
    tmp_path: Path, data: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cfg = config()
    use_checked(cfg, Path("work/trials/0"), data)  # a relative path, as sweeps have
    train = cfg.train_dataloader.dataset.dataset.ann_file
    assert Path(train).read_text() == "train mended"
    assert Path(train).is_absolute()  # or the data set would join it to its root
    assert Path(cfg.val_dataloader.dataset.ann_file).read_text() == "val mended"
    assert cfg.val_evaluator.ann_file == cfg.val_dataloader.dataset.ann_file


def test_a_trial_planned_before_there_was_a_check_keeps_its_files(data: dict[str, Any]) -> None:
    cfg = config()
    old = {split: {"file": "x", "annotations": "y"} for split in ("train", "val")}
    use_checked(cfg, Path("work/trials/0"), old)
    assert cfg.to_dict() == config().to_dict()


@pytest.mark.parametrize("part", ["train.json", "val.json", "train", "val"])
@pytest.mark.parametrize("gone", [False, True])
def test_data_that_has_changed_is_refused(
    tmp_path: Path, data: dict[str, Any], part: str, gone: bool
) -> None:
    folder = tmp_path / "work" / "trials" / "0"
    refuse_other_data(folder, data)
    path = tmp_path / part
    if not path.suffix:
        path = tmp_path / "work" / f"annotations-{data[part]['annotations']}.json"
    path.unlink() if gone else path.write_text("other")
    with pytest.raises(ValueError, match="is gone" if gone else "has changed") as refused:
        refuse_other_data(folder, data)
    assert str(path) in str(refused.value)
