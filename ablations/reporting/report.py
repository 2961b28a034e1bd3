"""Write a report from the records of one or several sweeps."""

from datetime import date
from pathlib import Path

from ablations.analysis.study import Study, load_study
from ablations.reporting import sections
from ablations.reporting.figures.style import house_style
from ablations.reporting.figures.writer import FigureWriter
from ablations.reporting.page.write import PAGE, write_page
from ablations.reporting.tables import write_table

README = "README.md"
TRIALS_CSV = "trials.csv"


def write_report(work_dirs: list[Path], out: Path, baseline: str | None = None) -> Path:
    """Write ``README.md``, ``report.html``, ``trials.csv``, ``tables/``, ``figures/`` into ``out``.

    The same records give the same bytes, but for the date line of ``README.md``.

    Args:
        work_dirs: the sweeps' work directories; several are merged.
        out: the report's folder; what an earlier report left in it is replaced.
        baseline: label of the cell that differences are taken against; plain CE by default.

    Returns:
        The path of ``README.md``.

    Raises:
        ValueError: a folder is no sweep, the sweeps are not one protocol, or there is no such
            baseline.
    """
    study = load_study(work_dirs, baseline)
    for folder in (out / "tables", out / "figures"):
        folder.mkdir(parents=True, exist_ok=True)
        for stale in folder.iterdir():
            if stale.suffix in {".csv", ".tex", ".png", ".svg"}:
                stale.unlink()
    study.trials.to_csv(out / TRIALS_CSV, index=False)
    with house_style(), FigureWriter(out / "figures") as figures:
        parts = [build(study, figures) for build in sections.ALL]
    for part in parts:
        for table in part.tables:
            write_table(table, out / "tables")
    title = f"# {' + '.join(manifest.sweep for manifest in study.manifests)}"
    text = "\n\n".join([title, _dated(study), *(part.text for part in parts if part.text)])
    write_page(study, out / PAGE)
    path = out / README
    path.write_text(text + "\n", encoding="utf-8")
    return path


def _dated(study: Study) -> str:
    grid = study.manifests[0].grid
    title = str(grid.get("title") or "").strip()
    written = f"Report written on {date.today().isoformat()}."
    return "\n\n".join(part for part in (title, written) if part)
