"""Figure 2 and a table by detector: cost, accuracy, and accuracy on small objects."""

import numpy as np
import pandas as pd

from ablations.analysis.detectors import (
    detector_frame,
    loss_differences,
    several_detectors,
    side_by_side,
    size_differences,
)
from ablations.analysis.image_bootstrap import Resamples, resample_study
from ablations.analysis.object_sizes import (
    COCO_BOUNDS,
    FEWEST,
    NAMES,
    SIZES,
    Counts,
    Sized,
    Sizes,
    sized,
)
from ablations.analysis.study import Study
from ablations.reporting.figures.detectors import plot_detectors, plot_published
from ablations.reporting.figures.style import new_figure
from ablations.reporting.figures.writer import FigureWriter
from ablations.reporting.sections.section import Section, heading, paragraphs, picture, shown
from ablations.reporting.table_formats import MISSING, Table, number, with_half_width
from ablations.store.record import METRICS

MOST_CELLS = 21
"""With more cells the figure is left out: colours and markers would repeat."""

MOST_LINES = 5  # of what cannot be read


def detectors(study: Study, figures: FigureWriter) -> Section:
    """For a study of several detectors: Figure 2, their cost and AP, and AP by object size."""
    if not several_detectors(study) or study.finished.empty:
        return Section("")
    found = sized(study)
    frame = detector_frame(found.study)
    table = _table(frame)
    sizes, losses = _by_size(found), _by_loss(study)
    return Section(
        paragraphs(
            heading("Detectors side by side (Figure 2)"),
            _cost_note(frame),
            shown(table),
            _latency_note(study, frame),
            _figure(frame, figures),
            sizes.text,
            losses.text,
        ),
        [table, *sizes.tables, *losses.tables],
    )


def _table(frame: pd.DataFrame) -> Table:
    text = pd.DataFrame({"detector": frame.index})
    text["seeds"] = [f"{row.finished}/{row.planned}" for row in frame.itertuples()]
    text["params, M"] = [number(value / 1e6, 2) for value in frame["params"]]
    text["multiply-adds, G"] = [number(value / 1e9, 3) for value in frame["flops"]]
    text["ms an image"] = [
        f"{number(row.inference_ms)} to {number(row.inference_ms_slowest)}"
        if row.inference_n > 1
        else number(row.inference_ms)
        for row in frame.itertuples()
    ]
    for metric in METRICS:
        text[metric] = _with_interval(frame, metric)
    text["not finished"] = [problems or MISSING for problems in frame["problems"]]
    return Table(
        "detectors",
        "Parameters, multiply-adds of one image, latency (fastest to slowest trial), and box AP in "
        "percent; mean and 95 % interval over the seeds that finished",
        text,
        frame.reset_index(),
    )


def _with_interval(frame: pd.DataFrame, name: str) -> list[str]:
    half = frame[f"{name}_high"] - frame[name]
    return [with_half_width(mean, width) for mean, width in zip(frame[name], half, strict=True)]


def _cost_note(frame: pd.DataFrame) -> str:
    known = frame.dropna(subset=["flops"])
    if known.empty:
        return "The records do not have the detectors' parameters and multiply-adds."
    sizes = dict.fromkeys(
        f"{width:g} x {height:g} px"
        for width, height in zip(known["width"], known["height"], strict=True)
        if np.isfinite(width) and np.isfinite(height)
    )
    of = f" for an image of {' or '.join(sizes)}" if sizes else ""
    return (
        f"Multiply-adds are counted by mmengine's `get_model_complexity_info`{of}. It counts a "
        "multiplication with its addition as one operation, and leaves out what it does not know, "
        "such as non-maximum suppression."
    )


def _latency_note(study: Study, frame: pd.DataFrame) -> str:
    """How latency was measured, and what makes it incomparable here."""
    lacking = [str(label) for label in frame.index[frame["inference_n"] == 0]]
    if len(lacking) == len(frame):
        return "No record has a latency, so there is no Figure 2."
    records = [state.record for state in study.finished_states if state.record is not None]
    devices = sorted({record.device for record in records})
    machines = {
        str(call["machine"])
        for manifest in study.manifests
        for call in manifest.commands
        if call.get("machine")
    }
    text = (
        "Latency is the wall time of one image in a batch of its own through preprocessing, "
        "network and post-processing, without reading it: of each of twenty images the fastest of "
        "five repeats, and of the images the median, measured at the end of each trial on "
        f"{' and '.join(devices)}. Other work on a machine only slows a trial, so the fastest one "
        "of a cell counts, and the slowest shows how much there was of it."
    )
    beside, unknown = side_by_side(study)
    warnings = []
    if beside:
        warnings.append(
            f"**{beside} of {len(records)} trials ran while another did. On one machine they slow "
            "each other down, which repeats do not undo, so these latencies cannot be compared: "
            "run the sweep with `--workers 1`.**"
        )
    elif unknown:
        warnings.append(
            f"Whether trials ran side by side is not known for {unknown} of {len(records)}; "
            "latencies can be compared only if the sweep ran with `--workers 1`."
        )
    else:
        warnings.append("No two trials ran at the same time.")
    taken = sum(bool(record.taken_from) for record in records)
    if len(machines) > 1 or len(devices) > 1:
        warnings.append("**Several machines were used, so latencies cannot be compared.**")
    elif taken:
        warnings.append(
            f"{taken} of the trials were taken over from other sweeps: their latencies can be "
            "compared only if it was the same machine."
        )
    if lacking:
        warnings.append(f"No latency: {', '.join(f'`{label}`' for label in lacking)}.")
    return " ".join([text, *warnings])


def _figure(frame: pd.DataFrame, figures: FigureWriter) -> str:
    drawn = frame.dropna(subset=["inference_ms", "AP"])
    if drawn.empty:
        return ""
    if len(drawn) > MOST_CELLS:
        return f"The figure is left out: it would show {len(drawn)} cells, not {MOST_CELLS}."
    figure = new_figure(9.4, 4.0 + 0.2 * max(0, len(drawn) - 2) / 2, columns=2)
    plot_detectors(figure.axes[0], drawn)
    plot_published(figure.axes[1])
    name = figures.save(figure, "figure_2_detectors")
    return picture(
        name,
        "Figure 2: AP against the time of one image. Left this sweep, mean AP and its 95 % "
        "interval over seeds, at the time of the fastest trial, with a bar to the slowest; right "
        "what the paper printed, on another data set and another machine: compare the "
        "shapes, not the levels",
    )


def _by_size(found: Sized) -> Section:
    """The differences of AP by object size, and what the sizes are."""
    study = found.study
    left_out = found.left_out[:MOST_LINES]
    if more := len(found.left_out) - len(left_out):
        left_out.append(f"and {more} more")
    lines = f"Left out of AP by size: {'; '.join(left_out)}." if left_out else ""
    about = _sizes_note(found.sizes)
    data = size_differences(study)
    if data.empty:
        none = "There is no baseline to compare with: name a cell with `--baseline LABEL`."
        return Section(paragraphs(about, lines, none if study.baseline is None else ""))
    text = pd.DataFrame({"detector": data["label"].drop_duplicates()})
    for metric in NAMES:
        rows = data[data["metric"] == metric]
        text[metric] = [
            with_half_width(mean, half, sign=True)
            for mean, half in zip(rows["difference"], rows["half_seeds"], strict=True)
        ]
        text[f"better, {metric}"] = [
            better if np.isfinite(mean) else MISSING
            for better, mean in zip(rows["better"], rows["difference"], strict=True)
        ]
    table = Table(
        "detectors_by_size",
        f"AP of small, medium and large objects minus that of {study.baseline}, in percentage "
        "points, paired by seed, mean and 95 % interval over seeds; better or not at the 5 % level",
        text,
        data,
    )
    return Section(paragraphs(about, lines, shown(table), _finding(study, data)), [table])


def _finding(study: Study, data: pd.DataFrame) -> str:
    """Who is better on small objects, in a sentence."""
    said = _verdicts(data[data["metric"] == NAMES[0]])
    if not said:
        return ""
    return (
        f"On small objects, beside `{study.baseline}`: {said}. *Better* is yes or no where that "
        "holds at 5 % after Holm's correction over the detectors of a column, and unclear "
        "otherwise. It holds for other trainings on these images; other images are not allowed for."
    )


def _verdicts(data: pd.DataFrame) -> str:
    """``better: A, B; worse: C; not told apart: D``, those that could be compared."""
    known = data[data["difference"].notna()]
    parts = []
    for verdict, said in (("yes", "better"), ("no", "worse"), ("unclear", "not told apart")):
        labels = [f"`{label}`" for label in known["label"][known["better"] == verdict]]
        if labels:
            parts.append(f"{said}: {', '.join(labels)}")
    return "; ".join(parts)


def _by_loss(study: Study) -> Section:
    """Whether a loss helps on each detector; nothing where the grid has no axis of losses."""
    data = loss_differences(study, Resamples())
    if data.empty or data["difference"].isna().all():
        return Section("")
    data = loss_differences(study, resample_study(study))
    both = data["half_total"].notna().any()
    text = pd.DataFrame({"cell": data["label"], "minus": data["baseline"]})
    text["seeds"] = [f"{n:.0f}" for n in data["seeds"]]
    for name, half in (("over seeds", "half_seeds"), ("over seeds and images", "half_total")):
        if half == "half_seeds" or both:
            text[f"AP, {name}"] = [
                with_half_width(mean, width, sign=True)
                for mean, width in zip(data["difference"], data[half], strict=True)
            ]
    text["p corrected"] = [number(p, 3) for p in data["p_corrected"]]
    text["better"] = [
        verdict if np.isfinite(mean) else MISSING
        for verdict, mean in zip(data["better"], data["difference"], strict=True)
    ]
    table = Table(
        "losses_by_detector",
        "AP of each loss minus that of plain CE on the same detector, in percentage points, paired "
        "by seed, mean and 95 % interval; better or not at 5 % after Holm's correction over the "
        "rows, with the wider interval where there are two",
        text,
        data,
    )
    said = f"AP with another loss, beside plain CE on the same detector: {_verdicts(data)}."
    return Section(paragraphs(said, shown(table)), [table])


def _sizes_note(sizes: Sizes | None) -> str:
    if sizes is None:
        return (
            "AP_S, AP_M and AP_L are those of the records, under COCO's bounds as they are (32^2 "
            "and 96^2 square px), which are meant for images of 640 px: no trial kept its "
            "predictions with annotations that give the images' sizes."
        )
    low, high = (bound**0.5 for bound in sizes.bounds)
    text = (
        f"COCO's bounds of small and large objects, {COCO_BOUNDS[0] ** 0.5:g}^2 and "
        f"{COCO_BOUNDS[1] ** 0.5:g}^2 square px, are for images of 640 px. These are "
        f"{sizes.side:g} px long, which scales the bounds to {sizes.scaled[0] ** 0.5:.1f}^2 and "
        f"{sizes.scaled[1] ** 0.5:.1f}^2: {_counted(sizes.scaled_counts)} objects of the "
        "validation set."
    )
    if sizes.thirds:
        text += (
            f" That is too few of a size to tell anything (fewer than {FEWEST}), so here the sizes "
            f"are **thirds of the validation objects**, with bounds {low:.1f}^2 and {high:.1f}^2 "
            f"square px: {_counted(sizes.counts)}. They say who is better on the smaller objects "
            "of this data, not on what COCO calls small."
        )
    elif min(sizes.counts) < FEWEST:
        text += f" Some size has fewer than {FEWEST} objects, so its AP says little."
    return text + (
        " AP_S, AP_M and AP_L of this section are computed with these bounds from the predictions "
        "that the trials kept; in the other tables they are under COCO's bounds as they are "
        f"({_counted(sizes.coco_counts)})."
    )


def _counted(counts: Counts) -> str:
    return ", ".join(f"{count} {size}" for count, size in zip(counts, SIZES, strict=True))
