"""Figure 2, the table by detector and the imbalance in the report of a sweep of detectors."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from ablations.analysis.detectors import detector_frame
from ablations.analysis.paper import FIGURE_2
from ablations.analysis.study import load_study
from ablations.reporting import sections
from ablations.reporting.figures.detectors import plot_detectors, plot_published
from ablations.reporting.figures.style import house_style, new_figure
from ablations.reporting.report import write_report
from ablations.reporting.sections.detectors import detectors
from ablations.reporting.sections.imbalance import imbalance
from ablations.reporting.sections.section import Section, attempt
from tests.helpers.detectors import DETECTORS, Sweep, fabricate_detectors
from tests.helpers.fabricated import Plan, fabricate, label_of

PLAN = Plan(files=False, seeds=(0, 1, 2))


class Drawn:
    """Stands in for a FigureWriter: keeps the figures and writes none."""

    def __init__(self) -> None:
        self.figures: dict[str, Figure] = {}

    def save(self, figure: Figure, name: str) -> str:
        self.figures[name] = figure
        return name


def built(build: Any, work_dir: Path, baseline: str | None = None) -> tuple[Section, Drawn]:
    drawn = Drawn()
    with house_style():
        return attempt(build, load_study([work_dir], baseline), drawn), drawn  # type: ignore[arg-type]


def rows_of(text: str, header: str) -> dict[str, list[str]]:
    """The rows of the pipe table whose header begins with ``header``, by their first cell."""
    table = text.split(f"\n| {header} ")[1].split("\n\n")[0].splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    return {row[0]: row[1:] for row in cells}


def change(work_dir: Path, edit: Any) -> None:
    for path in (work_dir / "trials").glob("*/record.json"):
        record = json.loads(path.read_text())
        edit(record)
        path.write_text(json.dumps(record))


def label(detector: str) -> str:
    return label_of({"detector": detector})


def test_the_whole_report_has_figure_2_and_the_imbalance(tmp_path: Path) -> None:
    chosen = {name: DETECTORS[name] for name in ("RetinaNet FL", "SSD", "Faster R-CNN")}
    sweep = Sweep(chosen, replace(PLAN, images=10, seeds=(0, 1)))
    out = write_report([fabricate_detectors(tmp_path / "w", sweep)], tmp_path / "r").parent
    text = (out / "README.md").read_text()
    assert "## Detectors side by side (Figure 2)" in text
    assert "## The imbalance" in text
    assert "Left out: " not in text.split("## Detectors side")[1].split("\n## ")[0]
    for name in ("figure_2_detectors", "imbalance"):
        for suffix in ("png", "svg"):
            assert (out / "figures" / f"{name}.{suffix}").stat().st_size > 5000
    for name in ("detectors", "detectors_by_size", "imbalance"):
        assert len(pd.read_csv(out / "tables" / f"{name}.csv")) >= len(chosen)
        assert r"\toprule" in (out / "tables" / f"{name}.tex").read_text()


def test_records_from_before_leave_the_report_as_it_was(tmp_path: Path, monkeypatch: Any) -> None:
    work_dir = fabricate(tmp_path / "w", replace(PLAN, points=[{"loss": "CE"}], seeds=(0,)))
    for name in ("complexity", "imbalance", "imbalance_missing"):
        change(work_dir, lambda record, name=name: record.pop(name))
    change(work_dir, lambda record: record.update(schema_version=3))
    for build in (detectors, imbalance):
        assert built(build, work_dir)[0] == Section("")
    files = []
    for kept in (True, False):
        if not kept:
            before = [build for build in sections.ALL if build not in (detectors, imbalance)]
            monkeypatch.setattr("ablations.reporting.sections.ALL", tuple(before))
        out = write_report([work_dir], tmp_path / str(kept)).parent
        found = (path for path in out.rglob("*") if path.is_file())
        files.append({path.relative_to(out).as_posix(): path.read_bytes() for path in found})
    assert files[0] == files[1]


def test_the_table_has_cost_latency_and_ap_with_intervals(tmp_path: Path) -> None:
    section, _ = built(detectors, fabricate_detectors(tmp_path / "w", Sweep(plan=PLAN)))
    rows = rows_of(section.text, "detector | seeds")
    assert list(rows) == [label(name) for name in DETECTORS]
    seeds, params, flops, ms, *aps = rows[label("SSD")]
    assert (seeds, params, flops, ms) == ("3/3", "1.23", "0.099", "5.2 to 5.4")
    assert all("±" in ap for ap in aps[:6])
    assert "for an image of 96 x 96 px" in section.text
    assert "No two trials ran at the same time." in section.text
    assert "measured at the end of each trial on cpu" in section.text


def test_trials_side_by_side_are_warned_of(tmp_path: Path) -> None:
    sweep = Sweep(plan=PLAN, apart_s=40.0)
    section, _ = built(detectors, fabricate_detectors(tmp_path / "beside", sweep))
    assert "**21 of 21 trials ran while another did." in section.text
    assert "`--workers 1`" in section.text
    sweep = Sweep(plan=PLAN, lacking=("attempts",))
    section, _ = built(detectors, fabricate_detectors(tmp_path / "unknown", sweep))
    assert "is not known for 21 of 21" in section.text


def test_other_machines_are_warned_of(tmp_path: Path) -> None:
    work_dir = fabricate_detectors(tmp_path / "w", Sweep(plan=PLAN))
    change(work_dir, lambda r: r.update(device="H100") if r["seed"] == 2 else None)
    section, _ = built(detectors, work_dir)
    assert "on H100 and cpu" in section.text
    assert "**Several machines were used, so latencies cannot be compared.**" in section.text


def test_one_detector_that_failed_is_in_the_table_with_its_reason(tmp_path: Path) -> None:
    states = {(label("SSD"), seed): "failed" for seed in PLAN.seeds}
    states[label("YOLOv3"), 0] = "diverged"
    sweep = Sweep(plan=replace(PLAN, states=states))
    section, drawn = built(detectors, fabricate_detectors(tmp_path / "w", sweep))
    rows = rows_of(section.text, "detector | seeds")
    assert rows[label("SSD")][0] == "0/3"
    assert rows[label("SSD")][3:10] == ["-"] * 7
    assert rows[label("SSD")][-1] == "3 of 3 failed"
    assert rows[label("YOLOv3")][0] == "2/3"
    sizes = rows_of(section.text, "detector | AP_S")
    assert sizes[label("SSD")] == ["-"] * 6
    ours = drawn.figures["figure_2_detectors"].axes[0]
    assert label("SSD") not in ours.get_legend_handles_labels()[1]
    assert len(ours.get_legend_handles_labels()[1]) == len(DETECTORS) - 1


def test_a_detector_without_latency_is_not_drawn_and_named(tmp_path: Path) -> None:
    work_dir = fabricate_detectors(tmp_path / "w", Sweep(plan=PLAN))

    def without(record: dict[str, Any]) -> None:
        if record["label"] == label("FCOS"):
            del record["timings"]["inference_ms"]

    change(work_dir, without)
    section, drawn = built(detectors, work_dir)
    assert f"No latency: `{label('FCOS')}`." in section.text
    drawn_labels = drawn.figures["figure_2_detectors"].axes[0].get_legend_handles_labels()[1]
    assert label("FCOS") not in drawn_labels
    sweep = Sweep(plan=PLAN, lacking=("inference_ms", "complexity"))
    section, drawn = built(detectors, fabricate_detectors(tmp_path / "none", sweep))
    assert "No record has a latency, so there is no Figure 2." in section.text
    assert "do not have the detectors' parameters" in section.text
    assert drawn.figures == {}


def test_one_seed_has_points_without_intervals(tmp_path: Path) -> None:
    sweep = Sweep(plan=replace(PLAN, seeds=(0,)))
    section, drawn = built(detectors, fabricate_detectors(tmp_path / "w", sweep))
    assert "±" not in section.text
    assert set(drawn.figures) == {"figure_2_detectors"}


def test_no_baseline_is_said(tmp_path: Path) -> None:
    chosen = {name: DETECTORS[name] for name in ("SSD", "FCOS")}
    sweep = Sweep(chosen, PLAN, baseline=None)
    section, _ = built(detectors, fabricate_detectors(tmp_path / "w", sweep))
    assert (
        "There is no baseline to compare with: name a cell with `--baseline LABEL`." in section.text
    )
    assert [table.name for table in section.tables] == ["detectors"]


def test_better_on_small_objects_has_an_answer(tmp_path: Path) -> None:
    effects = {"RetinaNet FL": 0.0, "SSD": -9.0, "Faster R-CNN": 9.0}
    chosen = {
        name: replace(DETECTORS[name], effect=0.0, size_effects=(effect, 0.0, 0.0))
        for name, effect in effects.items()
    }
    sweep = Sweep(chosen, replace(PLAN, seeds=(0, 1, 2, 3)))
    section, _ = built(detectors, fabricate_detectors(tmp_path / "w", sweep))
    rows = rows_of(section.text, "detector | AP_S")
    assert rows[label("SSD")][1] == "no"
    assert rows[label("Faster R-CNN")][1] == "yes"
    assert f"On small objects, beside `{label('RetinaNet FL')}`: better: `" in section.text
    assert "under COCO's bounds as they are" in section.text  # no predictions were kept


def test_sizes_are_explained_and_counted(tmp_path: Path) -> None:
    chosen = {name: DETECTORS[name] for name in ("RetinaNet FL", "SSD")}
    sweep = Sweep(chosen, replace(PLAN, images=30, seeds=(0, 1)))
    work_dir = fabricate_detectors(tmp_path / "w", sweep)
    truth = json.loads(next(work_dir.glob("annotations-*.json")).read_text())
    section, _ = built(detectors, work_dir)
    count = len(truth["annotations"])
    assert "**thirds of the validation objects**" in section.text
    counted = section.text.split("square px: ")[1].split(". They say")[0]
    assert sum(int(part.split()[0]) for part in counted.split(", ")) == count


def test_losses_are_compared_within_each_detector(tmp_path: Path) -> None:
    points = [
        {"detector": detector, "loss": loss}
        for detector in ("RetinaNet", "FCOS")
        for loss in ("CE", "FL gamma=2")
    ]
    effects = {label_of(points[1]): 6.0, label_of(points[2]): 9.0, label_of(points[3]): 9.0}
    plan = replace(PLAN, points=points, effects=effects, noise=0.2, seeds=(0, 1, 2, 3))
    section, _ = built(detectors, fabricate(tmp_path / "w", plan))
    assert [table.name for table in section.tables][-1] == "losses_by_detector"
    assert (
        f"better: `{label_of(points[1])}`; not told apart: `{label_of(points[3])}`" in section.text
    )
    rows = rows_of(section.text, "cell | minus")
    assert rows[label_of(points[3])][0] == label_of(points[2])


def test_nothing_finished_is_no_section(tmp_path: Path) -> None:
    states = {(label(name), seed): "failed" for name in DETECTORS for seed in PLAN.seeds}
    work_dir = fabricate_detectors(tmp_path / "w", Sweep(plan=replace(PLAN, states=states)))
    assert built(detectors, work_dir)[0] == built(imbalance, work_dir)[0] == Section("")


def test_the_imbalance_of_every_head(tmp_path: Path) -> None:
    section, drawn = built(imbalance, fabricate_detectors(tmp_path / "w", Sweep(plan=PLAN)))
    text = section.text
    assert (
        f"| {label('Faster R-CNN')} | roi_head.bbox_head | proposals | 128 | 22.0 | 5.8 |" in text
    )
    assert f"| {label('RetinaNet FL')} | bbox_head | anchors | 1,620 | 11.2 | 145 |" in text
    assert "| 96.0 ± 2.5 | 41.0 ± 0.0 | 31.0 ± 2.5 |" in text
    names = [tick.get_text() for tick in drawn.figures["imbalance"].axes[0].get_yticklabels()]
    assert f"{label('Faster R-CNN')}, rpn_head" in names
    assert label("SSD") in names


def test_a_detector_without_positives_has_no_ratio(tmp_path: Path) -> None:
    empty = replace(DETECTORS["SSD"], heads=(("bbox_head", "anchors", 774.0, 0.0),))
    sweep = Sweep({"RetinaNet FL": DETECTORS["RetinaNet FL"], "SSD": empty}, PLAN)
    section, drawn = built(imbalance, fabricate_detectors(tmp_path / "w", sweep))
    assert f"| {label('SSD')} | bbox_head | anchors | 774 | 0.0 | - |" in section.text
    assert f"No positive was seen for `{label('SSD')}` (bbox_head)" in section.text
    assert "imbalance" in drawn.figures


def test_what_could_not_be_watched_is_said_with_its_reason(tmp_path: Path) -> None:
    work_dir = fabricate_detectors(tmp_path / "w", Sweep(plan=PLAN))
    reason = "no head of DETR has a classification loss to watch."

    def unwatched(record: dict[str, Any]) -> None:
        if record["label"] == label("SSD"):
            record.update(imbalance=[], imbalance_missing=reason)
        if record["label"] == label("ATSS"):
            for entry in record["imbalance"]:
                entry["ce_negative_share"] = {"start": None, "middle": None, "end": None}

    change(work_dir, unwatched)
    section, _ = built(imbalance, work_dir)
    assert f"Not recorded for `{label('SSD')}`: {reason}" in section.text
    row = next(line for line in section.text.splitlines() if line.startswith(f"| {label('ATSS')} "))
    assert row.endswith("| - | - | - |")
    change(work_dir, lambda r: r.update(imbalance=[], imbalance_missing=reason))
    section, drawn = built(imbalance, work_dir)
    assert section.tables == []
    assert drawn.figures == {}
    assert reason in section.text


def boxes_of(figure: Figure, axes: int) -> list[Bbox]:
    figure.canvas.draw()
    return [text.get_window_extent() for text in figure.axes[axes].texts]


def test_names_in_the_papers_panel_cover_neither_each_other_nor_a_point() -> None:
    with house_style():
        figure = new_figure(9.4, 4.5, columns=2)
        plot_published(figure.axes[1])
        boxes = boxes_of(figure, 1)
    assert len(boxes) == len(FIGURE_2.rows)
    for i, one in enumerate(boxes):
        assert not any(one.overlaps(other) for other in boxes[i + 1 :])
    axes = figure.axes[1]
    for line in axes.lines:
        points = axes.transData.transform(np.column_stack([line.get_xdata(), line.get_ydata()]))
        assert not any(box.contains(*point) for box in boxes for point in points)


def test_markers_and_colours_differ_between_all_cells(tmp_path: Path) -> None:
    many = {f"D{n}": replace(DETECTORS["SSD"], ms=5.0 + n, effect=float(n)) for n in range(21)}
    sweep = Sweep(many, replace(PLAN, seeds=(0, 1)), baseline="D0")
    work_dir = fabricate_detectors(tmp_path / "w", sweep)
    with house_style():
        figure = new_figure(9.4, 4.5, columns=2)
        plot_detectors(figure.axes[0], detector_frame(load_study([work_dir])))
    handles, _ = figure.axes[0].get_legend_handles_labels()
    looks = {(h.get_color(), h.get_marker(), h.get_markerfacecolor()) for h in handles}
    assert len(looks) == len(many)
