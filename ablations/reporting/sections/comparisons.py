"""Which differences are real: against the baseline, against the best cell, against the paper."""

import numpy as np
import pandas as pd

from ablations.analysis.agreement import agreement
from ablations.analysis.comparisons import (
    MOST_PAIRS,
    against_baseline,
    against_best,
    all_pairs,
    typical_paired_sd,
)
from ablations.analysis.image_bootstrap import (
    FEWEST_GROUPS,
    MAX_PREDICTION_BYTES,
    MAX_TRIALS,
    RESAMPLES,
    Resamples,
    resample_study,
)
from ablations.analysis.paper import FIGURES
from ablations.analysis.paper_protocol import study_differs_from_paper
from ablations.analysis.seeds import adjusted_means, half_width, seeds_needed, unequal_seeds
from ablations.analysis.study import Study, paper_figures
from ablations.analysis.variances import NOISIER
from ablations.reporting.figures.comparisons import plot_differences
from ablations.reporting.figures.style import new_figure
from ablations.reporting.figures.writer import FigureWriter
from ablations.reporting.sections.section import Section, heading, paragraphs, picture, shown
from ablations.reporting.table_formats import MISSING, Table, number, signed, with_half_width

RESOLVED = (0.3, 0.5, 1.0, 2.0)
MOST_LINES = 5  # of what cannot be read
MOST_CELLS = 40
"""Beyond this many cells the figure of the differences is left out: nobody could read it."""


def comparisons(study: Study, figures: FigureWriter) -> Section:
    """Baseline, best cell, seeds needed, agreement with the paper."""
    if study.finished.empty:
        return Section("")
    left_out: dict[str, None] = {}
    resamples = resample_study(study, lambda line: left_out.setdefault(line))
    sections = [
        _baseline(study, resamples, figures),
        Section(_unreadable(list(left_out))),
        _best(study, resamples),
        _seeds(study),
        _paper(study),
    ]
    return Section(
        paragraphs(*(section.text for section in sections)),
        [table for section in sections for table in section.tables],
    )


def _unreadable(lines: list[str]) -> str:
    if not lines:
        return ""
    more = f"; and {len(lines) - MOST_LINES} more" if len(lines) > MOST_LINES else ""
    return f"Left out of the resampling of images: {'; '.join(lines[:MOST_LINES])}{more}."


def _baseline(study: Study, resamples: Resamples, figures: FigureWriter) -> Section:
    title = heading("Against the baseline")
    if study.baseline is None:
        return Section(
            paragraphs(title, "The grid has no plain CE; name a cell with `--baseline LABEL`.")
        )
    data = against_baseline(study, resamples)
    if data.empty:
        return Section(paragraphs(title, f"`{study.baseline}` is the only cell."))
    units = _units(resamples)
    width = half_width(0.0, 2, data["image_sd"], image_df=resamples.df)
    text = pd.DataFrame(
        {
            "cell": data["label"],
            "seeds": data["seeds"].astype(int).astype(str),
            "difference, over seeds": _pm(data, "half_seeds"),
            f"over {units} alone": _pm(data.assign(half=width), "half", needs_half=True),
            f"over seeds and {units}": _pm(data, "half_total", needs_half=True),
            "p": [_p(value) for value in data["p"]],
            "unpaired": _pm(data, "half_unpaired", needs_half=True),
            "seeds to find it": [_count(value) for value in data["seeds_needed"]],
        }
    )
    if resamples.too_few_groups:
        text = text.drop(columns=[f"over {units} alone", f"over seeds and {units}"])
    table = Table(
        "against_baseline",
        f"AP minus that of {study.baseline}, in percentage points, mean and 95 % interval",
        text,
        data,
    )
    return Section(
        paragraphs(
            title, _how_paired(study, resamples), shown(table), _figure(study, data, figures)
        ),
        [table],
    )


def _units(resamples: Resamples) -> str:
    """What the validation images are resampled by."""
    return "images" if resamples.groups is None else "groups of images"


def _over_images(study: Study, resamples: Resamples) -> str:
    """What is said about other validation images, and why no more."""
    finished, done, groups = len(study.finished), len(resamples.ap), resamples.groups
    if groups is not None and resamples.too_few_groups:
        return (
            f"The {groups.images} validation images come in {groups.count} groups (`{groups.key}` "
            f"in the annotations), and images of one group are not independent. {groups.count} "
            f"groups cannot carry an interval over images, which takes {FEWEST_GROUPS} or more, so "
            "none is given: what holds over seeds holds for *these* groups, and whether it holds "
            "for others is open, however small its p value. Validate on images of more groups to "
            "find out."
        )
    if not done:
        return (
            "No trial kept its predictions with their annotations, so nothing is said about other "
            "validation images."
        )
    units = _units(resamples)
    of_groups, quantile, name = "", "1.96", "images"
    if groups is not None:
        quantile, name = f"{half_width(0.0, 2, 1.0, image_df=resamples.df):.2f}", "groups"
        of_groups = (
            f" The {groups.images} images come in {groups.count} groups (`{groups.key}` in the "
            "annotations); images of one group are not independent, so whole groups are drawn, and "
            f"Student's t with {groups.count - 1} degrees of freedom makes up for their number."
        )
    return (
        f"*Over {units} alone* keeps the trained models and asks for other validation {units}: "
        f"they are resampled {RESAMPLES} times, the same way for every trial "
        f"({done} of {finished} finished trials"
        f"{_limits(done, finished)}), and AP is computed exactly each time.{of_groups} *Over "
        f"seeds and {units}* asks for both; the two half-widths add in quadrature, "
        f"sqrt((t s / sqrt(n))^2 + ({quantile} s_{name})^2), which is a little wide."
    )


def _how_paired(study: Study, resamples: Resamples) -> str:
    images = _over_images(study, resamples)
    return (
        "Differences are paired: the trials of one seed share initial weights, data order and "
        "validation images. *Over seeds* (Student's t over the n paired differences) asks what "
        f"another training would give on the same images. {images} The p value belongs to the "
        "wider interval and is not corrected for the number of rows; *unpaired* is Welch's "
        "interval, for comparison; *seeds to find it* is the number at which a difference of the "
        "observed size is found with 80 % power at the 5 % level. How often these intervals cover "
        "is measured in `reports/benchmarks/coverage.md`."
    )


def _limits(resampled: int, finished: int) -> str:
    """Why not all were resampled, where the study is too large for it."""
    if finished <= max(resampled, MAX_TRIALS):
        return ""
    return (
        f": the lowest seeds of as many cells as {MAX_PREDICTION_BYTES >> 20} MB of predictions, "
        f"and {MAX_TRIALS} trials, allow"
    )


def _figure(study: Study, data: pd.DataFrame, figures: FigureWriter) -> str:
    drawn = data[data["difference"].notna()]
    if not 0 < len(drawn) <= MOST_CELLS:
        return ""
    longest = drawn["label"].str.len().max()
    width = 6.5 + 0.08 * max(0, longest - 24)  # long labels leave the axes their room
    figure = new_figure(width, 1.2 + 0.26 * len(drawn))
    plot_differences(figure.axes[0], drawn, str(study.baseline))
    name = figures.save(figure, "differences")
    return picture(name, f"AP minus that of {study.baseline}, with 95 % intervals")


def _best(study: Study, resamples: Resamples) -> Section:
    data = against_best(study, resamples)
    if len(data) < 2:
        return Section("")
    text = pd.DataFrame(
        {
            "cell": data["label"],
            "AP minus the best cell's": [signed(value) for value in data["difference"]],
            "p, over seeds": [_p(value) for value in data["p_seeds"]],
            "p, seeds and images": [_p(value) for value in data["p_total"]],
            "verdict": data["verdict"],
        }
    )
    table = Table(
        "against_best",
        "Paired differences from the cell with the highest mean AP, in percentage points, with "
        "adjusted p values",
        text,
        data,
    )
    count = len(data) * (len(data) - 1) // 2
    many = count > MOST_PAIRS
    note = (
        f"A cell is called worse only if that holds at 5 % after {'Bonferroni' if many else 'Holm'}"
        f"'s correction over *all* {count} pairs of cells, because the best cell is picked on the "
        "same numbers; *worse on these images* holds over seeds, but not if other validation "
        f"{_units(resamples)} are allowed for"
        + (
            ", or the cell has no resampled trial"
            if resamples.ap and data["p_total"].isna().sum() > 1
            else ""
        )
        + ". Variances are moderated: each pair's is shrunk towards the common one, the more the "
        "more alike they are; a pair with a cell that is noisier than the rest (F test at "
        f"{100 * NOISIER:g} %) keeps its own."
        + _adjusted(study)
        + (
            " What holds over seeds holds for these images: there are too few groups of them to "
            "speak of others."
            if resamples.too_few_groups
            else ""
        )
        + (
            f" Only the {len(data) - 1} pairs with the best cell are compared, and the common "
            f"variance is that of {MOST_PAIRS} random pairs."
            if many
            else ""
        )
    )
    if data["p_seeds"].isna().all():
        note = "With one seed no cell can be told from the best one."
    title = heading("Which cells may be the best")
    return Section(paragraphs(title, note, shown(table)), [table])


def _adjusted(study: Study) -> str:
    """How means of cells with unequal seeds are compared; nothing where seeds are equal."""
    if not unequal_seeds(study.values()):
        return ""
    return (
        " The cells do not all have the same seeds, and a seed shifts all cells, so the best "
        "one is that with the highest *adjusted* mean (cell + seed by least squares: what each "
        "would have over all seeds); differences are taken over the seeds that both cells have."
    )


def _seeds(study: Study) -> Section:
    sd = typical_paired_sd(study)
    title = heading("Seeds needed")
    if not np.isfinite(sd):
        return Section(
            paragraphs(title, "It takes two seeds or more to tell how many seeds are needed.")
        )
    needed = seeds_needed(RESOLVED, sd)
    data = pd.DataFrame({"difference": RESOLVED, "seeds": needed, "sd": sd})
    data["trials"] = needed * len(study.labels)
    data["device_hours"] = data["trials"] * study.finished["device_s"].median() / 3600
    text = pd.DataFrame(
        {
            "difference in AP": [number(value) for value in RESOLVED],
            "seeds": [_count(value) for value in needed],
            "trials": [_count(value) for value in data["trials"]],
            "device-hours": [number(value, 2) for value in data["device_hours"]],
        }
    )
    table = Table(
        "seeds_needed",
        "Seeds at which a paired t test at the 5 % level finds a difference with 80 % power, and "
        f"what that many seeds of all {len(study.labels)} cells cost",
        text,
        data,
    )
    note = (
        f"One seed's paired difference between two cells has a standard deviation of {sd:.2f} AP "
        "here (root mean square over the cells). Costs take the median trial's. More seeds "
        "do not help against the validation images' share of the error."
    )
    return Section(paragraphs(title, note, shown(table)), [table])


def _paper(study: Study) -> Section:
    published = paper_figures(study)
    values = study.values()
    kept = [label for label in published.index if values.loc[label].notna().any()]
    if not kept:
        return Section("")
    texts = [heading("Against the paper")]
    tables = []
    means = adjusted_means(values.loc[kept])
    found = agreement(all_pairs(values.loc[kept]), means, published["AP"])
    if found is not None:
        texts.append(
            f"Order of the {found.cells} cells that the paper has: Kendall's tau "
            f"{found.tau:.2f}, 95 % interval [{found.low:.2f}, {found.high:.2f}]; Spearman's rho "
            f"{found.rho:.2f}. Of the pairs that the paper ranks, {found.agree} are surely ordered "
            f"as in the paper, {found.disagree} surely the other way round, and {found.open} "
            "cannot be told apart with these seeds (the interval lets them go either way)."
        )
    else:
        texts.append("Fewer than three of the paper's cells are here: no rank correlation.")
    differing = study_differs_from_paper(study)
    if differing:
        texts.append(
            "No difference from the paper's AP is given, because this is not the paper's "
            f"protocol: {'; '.join(differing)}."
        )
    else:
        tables.append(_paper_differences(study, published.loc[kept]))
        texts.append(shown(tables[0]))
    return Section(paragraphs(*texts), tables)


def _paper_differences(study: Study, published: pd.DataFrame) -> Table:
    data = pd.DataFrame({"label": published.index})
    for metric in FIGURES:
        data[metric] = study.values(metric).loc[published.index].mean(axis=1).to_numpy()
        data[f"paper_{metric}"] = published[metric].to_numpy()
    text = pd.DataFrame({"cell": data["label"]})
    for metric in FIGURES:
        text[metric] = [
            f"{number(mine)} ({signed(mine - theirs)})"
            for mine, theirs in zip(data[metric], data[f"paper_{metric}"], strict=True)
        ]
    return Table("against_paper", "Box AP in percent (minus the paper's)", text, data)


def _pm(data: pd.DataFrame, half: str, needs_half: bool = False) -> list[str]:
    return [
        MISSING
        if needs_half and not np.isfinite(width)
        else with_half_width(mean, width, sign=True)
        for mean, width in zip(data["difference"], data[half], strict=True)
    ]


def _p(value: float) -> str:
    if not np.isfinite(value):
        return MISSING
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _count(value: float) -> str:
    return f"{int(value)}" if np.isfinite(value) else MISSING
