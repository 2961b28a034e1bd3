"""Write a report from the records of one or several sweeps."""

import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path

from ablations.analysis.study import Study, load_study
from ablations.reporting import sections
from ablations.reporting.figures.style import house_style
from ablations.reporting.figures.writer import FigureWriter
from ablations.reporting.page.write import PAGE, write_page
from ablations.reporting.table_formats import write_table
from ablations.store.files import read_json, write_json

README = "README.md"
TRIALS_CSV = "trials.csv"
WRITTEN = ".report.json"
"""Which files of the folder the report wrote: those alone does the next one replace."""

_DATE = "Report written on "


def write_report(
    work_dirs: list[Path], out: Path, baseline: str | None = None, only: Sequence[str] = ()
) -> Path:
    """Write ``README.md``, ``report.html``, ``trials.csv``, ``tables/``, ``figures/`` into ``out``.

    The same records give the same bytes, but for the date line of ``README.md``. The report is
    built beside ``out`` and then put in place of what an earlier report wrote there; until then,
    and where it fails, the earlier one stays. Other files in ``out`` are not touched.

    Args:
        work_dirs: the sweeps' work directories; several are merged.
        out: the report's folder.
        baseline: label of the cell that differences are taken against; plain CE by default.
        only: terms that choose cells (``store.choosing``); all by default.

    Returns:
        The path of ``README.md``.

    Raises:
        ValueError: a folder is no sweep, the sweeps are not one protocol, there is no such
            baseline or cell, or ``out`` holds a ``README.md`` that no report wrote.
    """
    study = load_study(work_dirs, baseline, only)
    before = _written_before(out)
    with _beside(out) as draft:
        _build(study, draft)
        _swap(draft, out, before)
    return out / README


def _build(study: Study, folder: Path) -> None:
    (folder / "tables").mkdir()
    study.trials.to_csv(folder / TRIALS_CSV, index=False)
    with house_style(), FigureWriter(folder / "figures") as figures:
        parts = [sections.attempt(build, study, figures) for build in sections.ALL]
    for part in parts:
        for table in part.tables:
            write_table(table, folder / "tables")
    title = f"# {' + '.join(manifest.sweep for manifest in study.manifests)}"
    text = "\n\n".join([title, _dated(study), *(part.text for part in parts if part.text)])
    write_page(study, folder / PAGE)
    (folder / README).write_text(text + "\n", encoding="utf-8")


@contextmanager
def _beside(out: Path) -> Iterator[Path]:
    """An empty folder on the same file system; it is gone afterwards."""
    out.parent.mkdir(parents=True, exist_ok=True)
    draft = out.resolve().with_name(f".{out.resolve().name}.{uuid.uuid4().hex[:8]}")
    draft.mkdir()
    try:
        yield draft
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _written_before(out: Path) -> set[str]:
    """The files in ``out`` that an earlier report wrote, relative to it.

    Raises:
        ValueError: there is a ``README.md`` that no report wrote.
    """
    try:
        names = set((read_json(out / WRITTEN) or {}).get("files", ()))
    except (ValueError, AttributeError):  # damaged: nothing is known to be ours
        names = set()
    readme = out / README
    ours = README in names or not readme.is_file()
    if not ours and _DATE not in readme.read_text(encoding="utf-8", errors="replace"):
        raise ValueError(f"{readme} was not written by a report; name another folder")
    return {name for name in names if not Path(name).is_absolute() and ".." not in Path(name).parts}


def _swap(draft: Path, out: Path, before: set[str]) -> None:
    """Move a report into ``out``, its ``README.md`` last, and remove what it does not replace."""
    files = sorted(
        (path for path in draft.rglob("*") if path.is_file()), key=lambda path: path.name == README
    )
    names = [path.relative_to(draft).as_posix() for path in files]
    out.mkdir(exist_ok=True)
    # All that is or will be there, in case this is cut short.
    write_json(out / WRITTEN, {"files": sorted({*before, *names})})
    for path, name in zip(files, names, strict=True):
        (out / name).parent.mkdir(exist_ok=True)
        path.replace(out / name)
    for stale in before.difference(names):
        (out / stale).unlink(missing_ok=True)
    write_json(out / WRITTEN, {"files": sorted(names)})


def _dated(study: Study) -> str:
    grid = study.manifests[0].grid
    title = str(grid.get("title") or "").strip()
    written = f"{_DATE}{date.today().isoformat()}."
    return "\n\n".join(part for part in (title, written) if part)
