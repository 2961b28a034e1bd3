"""A few lines at the top of the report: what was run."""

from ablations.analysis.comparisons import ALPHA
from ablations.analysis.looks import looks
from ablations.analysis.merge import code_states, mixed_cells
from ablations.analysis.study import Study
from ablations.reporting.figures.writer import FigureWriter
from ablations.reporting.sections.section import Section, paragraphs

MOST_CELLS = 20  # in one line


def summary(study: Study, figures: FigureWriter) -> Section:
    """Trials by state, seeds, the data, and how the setting was chosen."""
    notes = [str(m.grid["note"]).strip() for m in study.manifests if m.grid.get("note")]
    chosen = "\n\n".join(dict.fromkeys(f"How the setting was chosen: {note}" for note in notes))
    smoke = (
        "**A smoke run**: its schedule is far too short to learn anything from the numbers below."
        if any(manifest.options.get("smoke") for manifest in study.manifests)
        else ""
    )
    return Section(
        paragraphs(
            smoke,
            scope(study),
            _one_seed(study),
            only_note(study),
            sequential_note(study),
            looks_note(study),
            mixed_code_note(study),
            chosen,
        )
    )


def scope(study: Study) -> str:
    """What was run: trials by state, seeds, and what AP means."""
    counts = study.trials["state"].value_counts(sort=False)
    states = ", ".join(f"{count} {state}" for state, count in counts.items())
    seeds = ", ".join(str(seed) for seed in study.seeds)
    return (
        f"{len(study.trials)} trials of {len(study.labels)} cells, seeds {seeds}: {states}. "
        "AP is COCO's box AP in percent, on this sweep's own validation images."
    )


def only_note(study: Study) -> str:
    """That some of the cells were chosen, if they were."""
    if not study.only:
        return ""
    return (
        f"**Some of the cells**: {len(study.labels)} of {study.whole}, chosen by `--only "
        f"{' '.join(study.only)}`. Corrections below count these cells alone."
    )


def sequential_note(study: Study) -> str:
    """That the number of seeds was decided by looking, if it was, and what holds then."""
    if study.decided is None:
        return ""
    return (
        "**A sequential design.** Cells got more seeds as long as their question was open, so the "
        "number of seeds depends on the results. Verdicts, p values and intervals that are valid "
        "for that are under *Sequential design*; 95 % intervals and p values elsewhere are those "
        "of a fixed number of seeds, which does not hold here: they only describe."
    )


def looks_note(study: Study) -> str:
    """That seeds were added after others had finished, and the level that this leaves."""
    if study.decided is not None:  # its looks were declared
        return ""
    found = looks(study)
    if found.count == 1:
        return ""
    before = ", then ".join(
        f"{len(seeds)} ({', '.join(map(str, seeds))})" for seeds in found.earlier
    )
    return (
        f"**Seeds were added in several goes.** When more were asked for, these had finished: "
        f"{before}. Whoever looked at them, and would have stopped at a difference, has looked "
        f"{found.count} times by now: a difference at p < {ALPHA} below is then false with a "
        f"chance of up to {100 * found.level(ALPHA):g} %, not {100 * ALPHA:g} % (Boole's "
        f"inequality; Armitage, McPherson and Rowe, 1969). To claim {100 * ALPHA:g} % all the "
        f"same, take p < {ALPHA / found.count:.3g} for it. If the number of seeds was fixed "
        "before the first one ran, nothing changes."
    )


def mixed_code_note(study: Study) -> str:
    """Which cells average trials of different code, if any do."""
    mixed = mixed_cells(code_states(study.finished_states))
    if not mixed:
        return ""
    more = f" and {len(mixed) - MOST_CELLS} more" if len(mixed) > MOST_CELLS else ""
    return (
        f"**Cells that average trials of different code:** {', '.join(mixed[:MOST_CELLS])}{more}. "
        "This package's loss or training code changed between their seeds; "
        "*How it was made* says which trials belong to which state of it."
    )


def _one_seed(study: Study) -> str:
    seeds = study.finished.groupby("label").size()
    if len(seeds) == 0:
        return "**No trial has finished: there is nothing to conclude yet.**"
    if seeds.max() > 1:
        return ""
    return (
        "**One seed a cell.** Without a second seed the spread between trainings is unknown, so no "
        "interval over seeds is given and no cell can be ranked above another: differences of half "
        "an AP and more come from the seed alone in detectors of this kind. Run more seeds "
        "(`--seeds 0 1 2`) into the same work directory and write the report again."
    )
