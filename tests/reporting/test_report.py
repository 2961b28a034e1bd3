import json
import os
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import mmcv
import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imsave
from mmengine.config import Config
from PIL import Image

from ablations.commands.report import main
from ablations.reporting.report import write_report
from ablations.reporting.validation_images import read_pixels
from ablations.store.files import sha256
from ablations.training.fingerprint import fingerprint
from tests.helpers.fabricated import GRID, PROTOCOL, Plan, fabricate

pytestmark = pytest.mark.usefixtures("sketched")

REPOSITORY = Path(__file__).parents[2]
EFFECTS = {"gamma=2 alpha=0.25": 6.0, "gamma=0 alpha=0.75": 3.0}


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(REPOSITORY / "runners" / "report.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=dict(os.environ))


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sweeps")
    states = {
        ("gamma=5 alpha=0.5", 1): "failed",
        ("gamma=5 alpha=0.75", 2): "pending",
        **{("gamma=0 alpha=0.25", seed): "diverged" for seed in (0, 1, 2)},
    }
    work_dir = fabricate(folder / "digits", Plan(effects=EFFECTS, states=states))
    return write_report([work_dir], folder / "report").parent


def test_table_2_puts_the_best_alpha_beside_the_papers_row(report: Path) -> None:
    table = pd.read_csv(report / "tables" / "table_2.csv").set_index("gamma")
    assert table.loc[2.0, "alpha"] == 0.25
    assert table.loc[2.0, "paper_AP"] == 34.0
    text = (report / "README.md").read_text()
    assert "another data set" in text
    assert "| plain CE |" in text


def test_what_did_not_finish_is_seen_with_its_reason(report: Path) -> None:
    text = (report / "README.md").read_text()
    assert "3 of 3 diverged" in text
    assert "loss became NaN at iteration 12" in text
    assert "ValueError: no such thing" in text
    assert len(pd.read_csv(report / "trials.csv")) == len(GRID) * 3


def test_every_link_of_the_report_leads_to_a_file(report: Path) -> None:
    text = (report / "README.md").read_text()
    links = [part.split(")")[0] for part in text.split("](")[1:]]
    local = [link for link in links if not link.startswith("http")]
    assert local
    assert [link for link in local if not (report / link).is_file()] == []


def test_figures_come_as_png_and_svg(report: Path) -> None:
    stems = {
        suffix: {p.stem for p in (report / "figures").glob(f"*{suffix}")}
        for suffix in (".png", ".svg")
    }
    assert stems[".png"] == stems[".svg"]
    assert {"figure_1_loss", "figure_4_loss_cdfs"} <= stems[".png"]


def test_figure_4_takes_the_focal_loss_of_gamma_2_whatever_the_grid_varies(tmp_path: Path) -> None:
    points: list[dict[str, object]] = [{"depth": 18}, {"depth": 34}, {"loss": "CE"}]
    plan = Plan(points=points, effects={"CE": 9.0, "depth=34": 5.0})
    text = write_report([fabricate(tmp_path / "digits", plan)], tmp_path / "report").read_text()
    assert "The model is `depth=34`, seed 0" in text and "none has finished here" not in text
    others = Plan(points=[{"loss": "CE"}, {"loss": "FL*", "gamma": 2.0, "beta": 1.0}])
    text = write_report([fabricate(tmp_path / "others", others)], tmp_path / "report").read_text()
    assert "gamma = 2; none has finished here" in text


def test_trials_of_other_sweeps_are_named_and_their_cost_is_not_counted(tmp_path: Path) -> None:
    origin = {"sweep": "alpha_ce", "work_dir": "work_dirs/alpha_ce", "command": "python first.py"}
    points = [{"loss": "CE"}, {"gamma": 2.0, "alpha": 0.25}]
    plan = Plan(points=points, taken={("CE", seed): origin for seed in (0, 1)})
    work_dir = fabricate(tmp_path / "digits", plan)
    text = write_report([work_dir], tmp_path / "report").read_text()
    made = text.split("## How it was made")[1]
    assert "2 from sweep alpha_ce (`work_dirs/alpha_ce`), by `python first.py`" in made
    assert "CE seed 0 (`00000000`), CE seed 1 (`00001000`)" in made
    cost = pd.read_csv(tmp_path / "report" / "tables" / "cost.csv").set_index("label")
    assert cost.loc["CE", "device_hours"] == pytest.approx(80 / 3600)
    assert cost.loc["CE", "device_hours_elsewhere"] == pytest.approx(2 * 80 / 3600)
    assert "2 of 6 trials were taken over from other sweeps: their 0.04 device-hours" in text
    assert "and 0.09 here" in text
    trials = pd.read_csv(tmp_path / "report" / "trials.csv")
    assert trials["taken_from"].dropna().tolist() == ["alpha_ce", "alpha_ce"]
    own = write_report(
        [fabricate(tmp_path / "own", Plan(points=points))], tmp_path / "r"
    ).read_text()
    assert "other sweeps" not in own

    # If the sweep that trained a trial is in the report too, its cost is counted once.
    seen = write_report([work_dir, tmp_path / "own"], tmp_path / "both").read_text()
    assert "other sweeps" not in seen


def test_only_the_first_rows_of_a_long_table_are_in_the_text(tmp_path: Path) -> None:
    points = [{"gamma": 0.1 * g, "alpha": 0.25} for g in range(201)]
    work_dir = fabricate(tmp_path / "digits", Plan(points=points, seeds=(0, 1), files=False))
    text = write_report([work_dir], tmp_path / "report").read_text()
    assert "The first 200 of 201 rows; the files have all." in text
    assert "The figures are left out" in text
    assert len(pd.read_csv(tmp_path / "report" / "tables" / "cells.csv")) == 201
    assert "Only the 200 pairs with the best cell are compared" in text


def test_a_grid_with_other_axes_gets_a_flat_table(tmp_path: Path) -> None:
    points = [{"loss": "CE"}, {"loss": "FL*", "gamma": 2.0, "beta": 1.0}, {"scales": 3}]
    plan = Plan(points=points, grid={"name": "other", "table": None})
    text = write_report([fabricate(tmp_path / "other", plan)], tmp_path / "report").read_text()
    assert "FL* gamma=2 beta=1" in text
    assert "Table 2" not in text


def test_a_sweep_over_alpha_alone_has_no_table_over_gamma(tmp_path: Path) -> None:
    plan = Plan(points=[{"gamma": 0.0, "alpha": alpha} for alpha in (0.25, 0.75)])
    text = write_report([fabricate(tmp_path / "alpha", plan)], tmp_path / "report").read_text()
    assert "Table 2" not in text
    assert "alpha = 0.75" in text


def test_the_papers_rows_stand_beside_a_grid(tmp_path: Path) -> None:
    points = [{"method": "FL"}, {"method": "OHEM", "batch_size": 16, "nms_threshold": 0.7}]
    plan = Plan(points=points, grid={"name": "ohem", "table": "table_1d"}, noise=0, seed_shift=0)
    work_dir = fabricate(tmp_path / "ohem", plan)
    text = write_report([work_dir], tmp_path / "report").read_text()
    assert "Beside the paper's Table 1d" in text
    assert "| FL | - | - | 40.0 | 58.0 | 42.0 | 36 | 54.9 | 38.7 |" in text
    assert "| OHEM_1:3 | 128 | 0.5 | - | - | - | 31.1 | 47.2 | 33.2 |" in text
    assert "9 of its 10 rows" in text
    assert "another data set" in text


def test_differences_from_the_paper_need_its_protocol_and_never_table_1e(tmp_path: Path) -> None:
    cfg = Config.fromfile(REPOSITORY / "configs" / "retinanet_r50_coco_600.py")
    protocol = fingerprint(cfg, 8)

    def text(table: str, points: list[dict], **changed: object) -> str:
        name = f"{table}-{len(changed)}"
        grid = {"name": name, "table": table}
        plan = Plan(points=points, grid=grid, protocol=protocol | changed)
        return write_report([fabricate(tmp_path / name, plan)], tmp_path / f"r-{name}").read_text()

    balanced = [{"gamma": 0, "alpha": alpha} for alpha in (0.25, 0.5, 0.75)]
    assert "No difference from the paper's AP" not in text("table_1a", balanced)
    other = text("table_1a", balanced, lr=0.02)
    assert "not the paper's protocol: lr 0.02 (the paper's: 0.01)" in other
    sizes = [{"depth": 50, "scale": scale} for scale in (400, 500, 600)]
    assert "measured on test-dev" in text("table_1e", sizes)


def test_depth_and_scale_give_a_picture_of_speed(tmp_path: Path) -> None:
    points = [{"depth": d, "scale": s} for d in (18, 34) for s in (64, 96)]
    plan = Plan(points=points, grid={"name": "depth_scale", "table": "table_1e"})
    out = tmp_path / "report"
    text = write_report([fabricate(tmp_path / "sizes", plan)], out).read_text()
    assert "Accuracy against speed" in text
    assert (out / "figures" / "figure_2_speed.png").is_file()
    assert len(pd.read_csv(out / "tables" / "speed.csv")) == 4


def test_a_sweep_that_has_not_begun_still_has_a_report(tmp_path: Path) -> None:
    points = [{"loss": "CE"}]
    states = {("CE", seed): "pending" for seed in (0, 1, 2)}
    work_dir = fabricate(tmp_path / "digits", Plan(points=points, states=states))
    text = write_report([work_dir], tmp_path / "report").read_text()
    assert "nothing to conclude" in text


def test_one_seed_is_told_what_it_cannot_conclude(tmp_path: Path) -> None:
    work_dir = fabricate(tmp_path / "digits", Plan(seeds=(0,)))
    text = write_report([work_dir], tmp_path / "report").read_text()
    assert "One seed a cell" in text
    assert "±" not in text.split("## Every cell")[1].split("##")[0]


def test_the_command_line_writes_where_it_is_told(tmp_path: Path) -> None:
    work_dir = fabricate(tmp_path / "digits", Plan(points=[{"loss": "CE"}]))
    done = run(work_dir, "--out", tmp_path / "report")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "report" / "README.md").is_file()


@pytest.mark.parametrize(
    "problem", ["no sweep", "no label", "broken manifest", "two protocols", "somebody's README"]
)
def test_bad_input_exits_with_2_and_one_line(
    tmp_path: Path, problem: str, capsys: pytest.CaptureFixture
) -> None:
    work_dir = fabricate(tmp_path / "digits", Plan(points=[{"loss": "CE"}]))
    arguments: list[object] = [work_dir, "--out", tmp_path / "report"]
    if problem == "no sweep":
        arguments[0] = tmp_path
    if problem == "no label":
        arguments += ["--baseline", "FL"]
    if problem == "broken manifest":
        (work_dir / "manifest.json").write_text('{"schema_version": 2}')
    if problem == "two protocols":
        other = Plan(points=[{"loss": "CE"}], seeds=(3,), protocol=PROTOCOL | {"lr": 0.1})
        arguments.insert(1, fabricate(tmp_path / "other", other))
    if problem == "somebody's README":
        arguments[-1] = tmp_path / "project"
        (tmp_path / "project").mkdir()
        (tmp_path / "project" / "README.md").write_text("# My project")
    assert main([str(each) for each in arguments]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert not (tmp_path / "report").exists()
    assert not list(tmp_path.glob(".*"))


def test_the_report_needs_neither_torch_nor_mmdet() -> None:
    code = (
        "import sys, ablations.reporting.report; "
        "print({'torch', 'mmdet', 'mmengine', 'wandb'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "set()"


def test_reruns_are_the_same_bytes_but_for_the_date_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()  # the figures too
    points = [{"loss": "CE"}, {"gamma": 2.0, "alpha": 0.25}, {"gamma": 0.0, "alpha": 0.75}]
    work_dir = fabricate(tmp_path / "digits", Plan(points=points, images=12))
    reports = []
    for day in (1, 2):
        today = type("Day", (), {"today": staticmethod(lambda day=day: date(2026, 5, day))})
        monkeypatch.setattr("ablations.reporting.report.date", today)
        folder = write_report([work_dir], tmp_path / str(day)).parent
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        reports.append({path.relative_to(folder): path.read_bytes() for path in files})
    one, two = reports
    assert list(one) == list(two)
    assert [str(name) for name in one if one[name] != two[name]] == ["README.md"]
    lines = [report[Path("README.md")].decode().splitlines() for report in reports]
    changed = [pair for pair in zip(*lines, strict=True) if pair[0] != pair[1]]
    assert changed == [("Report written on 2026-05-01.", "Report written on 2026-05-02.")]


def test_a_later_report_leaves_nothing_of_an_earlier_one(tmp_path: Path) -> None:
    first = fabricate(tmp_path / "digits", Plan(points=[{"gamma": 2.0, "alpha": 0.25}]))
    second = fabricate(tmp_path / "other", Plan(points=[{"scales": 1}], files=False))
    write_report([first], tmp_path / "report")
    assert (tmp_path / "report" / "figures" / "heat_map.png").is_file()
    write_report([second], tmp_path / "report")
    assert not (tmp_path / "report" / "figures" / "heat_map.png").is_file()


def test_a_thousand_trials_take_under_thirty_seconds(tmp_path: Path) -> None:
    gammas = [round(0.1 * i, 1) for i in range(20)]
    points = [{"gamma": g, "alpha": round(0.1 * a, 1)} for g in gammas for a in range(1, 11)]
    plan = Plan(points=points, seeds=(0, 1, 2, 3, 4), files=False)
    work_dir = fabricate(tmp_path / "many", plan)
    start = time.process_time()  # the core may be shared with somebody
    text = write_report([work_dir], tmp_path / "report").read_text()
    assert time.process_time() - start < 30
    assert "1000 trials of 200 cells" in text


def test_detections_are_drawn_only_on_the_images_that_were_scored(tmp_path: Path) -> None:
    folder = tmp_path / "val"
    folder.mkdir()
    for index in range(12):
        imsave(folder / f"{index}.png", np.zeros((64, 64, 3), dtype=np.uint8))
    points = [{"loss": "CE"}, {"gamma": 2.0, "alpha": 0.25}]
    plan = Plan(points=points, seeds=(0,), images=12, images_dir=folder)
    work_dir = fabricate(tmp_path / "digits", plan)
    picture = tmp_path / "report" / "figures" / "detections.png"
    write_report([work_dir], tmp_path / "report")
    assert picture.is_file()
    record = next((work_dir / "trials").glob("*/record.json"))
    annotations = json.loads(record.read_text())["data"]["val"]["file"]
    for path in (work_dir / "trials").glob("*/record.json"):
        fresh = str(tmp_path / "fresh.json")
        path.write_text(path.read_text().replace(annotations, fresh))
    (tmp_path / "fresh.json").write_text("{}")
    text = write_report([work_dir], tmp_path / "report").read_text()
    assert not picture.is_file()
    assert "validation images that the trials were scored on are not at hand" in text


def test_tables_are_booktabs_with_their_unit(report: Path) -> None:
    text = (report / "tables" / "table_2.tex").read_text()
    assert text.count(r"\toprule") == text.count(r"\bottomrule") == 1
    assert "percent" in text
    assert "±" not in text


POINTS = [{"loss": "CE"}, {"gamma": 2.0, "alpha": 0.25}]


def files_of(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


@pytest.mark.parametrize("damage", [b"not a zip", None])
def test_damaged_predictions_are_named(tmp_path: Path, damage: bytes | None) -> None:
    plan = Plan(points=POINTS, seeds=(0, 1), images=5)
    work_dir = fabricate(tmp_path / "digits", plan)
    path = min((work_dir / "trials").glob("*/predictions.npz"))
    if damage is None:
        with np.load(path) as stored:
            np.savez(path, **{name: stored[name][:1] for name in stored.files})
    else:
        path.write_bytes(damage)
    text = write_report([work_dir], tmp_path / "report").read_text()
    assert f"Left out of the resampling of images: {path} is not the file" in text
    assert "(3 of 4 finished trials" in text


RECORDS = {
    "torn": "{",
    "empty": "",
    "no object": "[]",
    "of the future": '{"schema_version": 99}',
    "of another status": '{"schema_version": 2, "status": "splendid"}',
    "without its fields": '{"schema_version": 2, "status": "finished"}',
    "with another field": None,
    "with text for numbers": None,
}


@pytest.mark.parametrize("kind", RECORDS)
def test_a_damaged_record_is_a_reason_in_the_table(tmp_path: Path, kind: str) -> None:
    work_dir = fabricate(tmp_path / "digits", Plan(points=POINTS, seeds=(0, 1)))
    path = min((work_dir / "trials").glob("*/record.json"))
    value = json.loads(path.read_text())
    text = RECORDS[kind]
    if kind == "with another field":
        text = json.dumps({**value, "spirit": 1})
    if kind == "with text for numbers":
        text = json.dumps({**value, "metrics": {"AP": "high"}})
    path.write_text(str(text))
    report = write_report([work_dir], tmp_path / "report").read_text()
    missing = report.split("## Failed, diverged and missing trials")[1].split("##")[0]
    assert "| CE | 0 | damaged | record.json " in missing
    assert "1 damaged, 3 finished" in report
    assert str(tmp_path) not in missing


@pytest.mark.parametrize("name", ["curve.npz", "probabilities.npz", "predictions.npz"])
@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 torn", b"\x93NUMPY"])
def test_a_damaged_file_costs_its_section_alone(tmp_path: Path, name: str, content: bytes) -> None:
    folder = tmp_path / "val"
    folder.mkdir()
    for index in range(12):
        imsave(folder / f"{index}.png", np.zeros((64, 64, 3), dtype=np.uint8))
    plan = Plan(points=POINTS, seeds=(0,), images=12, images_dir=folder)
    work_dir = fabricate(tmp_path / "digits", plan)
    for path in (work_dir / "trials").glob(f"*/{name}"):
        path.write_bytes(content)
    text = write_report([work_dir], tmp_path / "report").read_text()
    titles = {"curve.npz": "Training", "probabilities.npz": "Loss CDFs (Figure 4)"}
    section = text.split(f"## {titles.get(name, 'Detections')}")[1].split("\n## ")[0]
    assert "Left out: " in section
    assert name in section
    assert "## Every cell" in text
    assert "## How it was made" in text


def test_one_damaged_curve_of_two_leaves_the_other(tmp_path: Path) -> None:
    work_dir = fabricate(tmp_path / "digits", Plan(points=POINTS, seeds=(0,)))
    min((work_dir / "trials").glob("*/curve.npz")).write_bytes(b"")
    text = write_report([work_dir], tmp_path / "report").read_text()
    section = text.split("## Training")[1].split("\n## ")[0]
    assert "training_curves.png" in section
    assert "Left out: " in section


def test_a_stray_annotation_and_a_damaged_image_do_not_end_the_report(tmp_path: Path) -> None:
    folder = tmp_path / "val"
    folder.mkdir()
    for index in range(12):
        imsave(folder / f"{index}.png", np.zeros((64, 64, 3), dtype=np.uint8))
    plan = Plan(points=POINTS, seeds=(0,), images=12, images_dir=folder)
    work_dir = fabricate(tmp_path / "digits", plan)
    annotations = next(work_dir.glob("annotations-*.json"))
    truth = json.loads(annotations.read_text())
    first = min(a["image_id"] for a in truth["annotations"])
    for annotation in truth["annotations"]:
        if annotation["image_id"] != first:
            annotation["category_id"] = 77
    annotations.write_text(json.dumps(truth))
    digest = sha256(annotations)
    renamed = annotations.rename(work_dir / f"annotations-{digest}.json")
    for path in (work_dir / "trials").glob("*/record.json"):
        old = annotations.stem.removeprefix("annotations-")
        path.write_text(path.read_text().replace(old, digest))
    (folder / f"{first - 1}.png").write_bytes(b"not an image")
    text = write_report([work_dir], tmp_path / "report").read_text()
    assert (tmp_path / "report" / "figures" / "detections.png").is_file()
    renamed.write_text("{")
    text = write_report([work_dir], tmp_path / "report").read_text()
    assert "not valid JSON" in text.split("## Detections")[1]
    assert not (tmp_path / "report" / "figures" / "detections.png").is_file()


def test_a_report_that_fails_leaves_the_earlier_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work_dir = fabricate(tmp_path / "digits", Plan(points=POINTS))
    out = write_report([work_dir], tmp_path / "report").parent
    before = files_of(out)

    def broken(*_args: object) -> None:
        raise RuntimeError("the disk is full")

    monkeypatch.setattr("ablations.reporting.report.write_table", broken)
    with pytest.raises(RuntimeError, match="the disk is full"):
        write_report([work_dir], out)
    assert files_of(out) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["digits", "report"]


def test_files_of_the_users_own_survive(tmp_path: Path) -> None:
    work_dir = fabricate(tmp_path / "digits", Plan(points=POINTS, seeds=(0, 1)))
    out = write_report([work_dir], tmp_path / "report").parent
    assert (out / "figures" / "table_2.png").is_file() or (out / "tables" / "cells.csv").is_file()
    own = ["notes.md", "figures/mine.png", "tables/mine.csv", "more/deep.txt"]
    for name in own:
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).write_text(name)
    other = fabricate(tmp_path / "other", Plan(points=[{"scales": 1}], files=False))
    for _ in range(2):
        write_report([other], out)
        assert {name: (out / name).read_text() for name in own} == {name: name for name in own}
    fresh = write_report([other], tmp_path / "fresh").parent
    assert set(files_of(out)) - set(own) == set(files_of(fresh))


def test_a_report_from_before_there_was_a_list_is_replaced_and_kept(tmp_path: Path) -> None:
    """What it wrote is not known any more, so nothing of it is deleted."""
    work_dir = fabricate(tmp_path / "digits", Plan(points=POINTS, seeds=(0, 1)))
    out = write_report([work_dir], tmp_path / "report").parent
    (out / ".report.json").unlink()
    (out / "figures" / "old.png").write_text("")
    write_report([work_dir], out)
    assert (out / "figures" / "old.png").is_file()


def test_a_list_that_names_files_elsewhere_deletes_nothing(tmp_path: Path) -> None:
    work_dir = fabricate(tmp_path / "digits", Plan(points=POINTS, seeds=(0, 1)))
    out = write_report([work_dir], tmp_path / "report").parent
    outside = tmp_path / "outside.txt"
    outside.write_text("mine")
    names = ["../outside.txt", str(outside), "README.md"]
    (out / ".report.json").write_text(json.dumps({"files": names}))
    write_report([work_dir], out)
    assert outside.read_text() == "mine"


def test_cells_that_mix_trials_of_different_code_are_named(tmp_path: Path) -> None:
    work_dir = fabricate(tmp_path / "digits", Plan(points=POINTS))
    for path in (work_dir / "trials").glob("*/record.json"):
        value = json.loads(path.read_text())
        changed = value["label"] == "CE" and value["seed"] == 2
        digest = ("b" if changed else "a") * 16
        value["code"] = {"ablations.losses": digest, "ablations.training": "c" * 16}
        path.write_text(json.dumps(value))
    text = write_report([work_dir], tmp_path / "report").read_text()
    assert "**Cells that average trials of different code:** CE." in text
    made = text.split("## How it was made")[1]
    assert "ablations.losses `aaaaaaaaaaaa`" in made
    line = next(line for line in made.splitlines() if "`bbbbbbbbbbbb`" in line)
    assert line.endswith("CE (seed 2)")


def test_one_state_of_the_code_is_not_spoken_of(report: Path) -> None:
    text = (report / "README.md").read_text()
    assert "different code" not in text
    assert "states of this package" not in text


def test_classes_may_bear_the_names_of_our_columns(tmp_path: Path) -> None:
    names = ("cell", "label", "AP", "seed", "a|b")
    plan = Plan(points=[{"loss": "CE"}, {"gamma": 2.0, "alpha": 0.25}], seeds=(0,), files=False)
    work_dir = fabricate(tmp_path / "digits", plan)
    for path in (work_dir / "trials").glob("*/record.json"):
        record = json.loads(path.read_text())
        record["per_class"] = {name: 10.0 + place for place, name in enumerate(names)}
        path.write_text(json.dumps(record))
    text = write_report([work_dir], tmp_path / "report").read_text()
    table = pd.read_csv(tmp_path / "report" / "tables" / "per_class.csv")
    assert list(table.columns) == ["label", "class.cell", "class.label", *names[2:]]
    assert table["label"].tolist() == ["CE", "gamma=2 alpha=0.25"]
    assert table["class.label"].tolist() == [11.0, 11.0]
    assert r"| cell | class.cell | class.label | AP | seed | a\|b |" in text
    assert "| CE | 10.0 | 11.0 | 12.0 | 13.0 | 14.0 |" in text


@pytest.mark.parametrize("orientation", range(1, 9))
def test_figures_show_an_image_as_trials_decode_it(tmp_path: Path, orientation: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 64, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    decoded = mmcv.imfrombytes((tmp_path / "turned.png").read_bytes(), channel_order="rgb")
    assert (decoded.shape[:2] == (64, 40)) == (orientation >= 5)
    np.testing.assert_array_equal(read_pixels(tmp_path / "turned.png"), decoded)
