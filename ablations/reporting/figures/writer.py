"""Write a report's figures as PNG and SVG, with the same bytes on every run."""

import gc
import multiprocessing
import threading
import traceback
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import TracebackType

from matplotlib.figure import Figure

AT_A_TIME = 2  # processes; each may copy the report's memory, which is bounded


class FigureWriter:
    """Writes figures into ``folder`` while a ``with`` block runs; at its end all are written.

    Drawing takes as long as the rest of a report, so forked processes do it. If this process has
    threads, which do not survive a fork, it draws the figures itself.

    Raises (at the end of the block):
        RuntimeError: a figure could not be written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._processes: list[BaseProcess] = []
        self._failed: list[str] = []

    def __enter__(self) -> "FigureWriter":
        self.folder.mkdir(parents=True, exist_ok=True)
        return self

    def save(self, figure: Figure, name: str) -> str:
        """Write ``name.png`` and ``name.svg``, perhaps in another process; returns ``name``."""
        if threading.active_count() > 1:
            try:
                _write(figure, self.folder, name)
            except Exception:
                traceback.print_exc()
                self._failed.append(name)
            return name
        if len(self._processes) >= AT_A_TIME:
            self._processes[-AT_A_TIME].join()
        context = multiprocessing.get_context("fork")
        process = context.Process(target=_write_apart, args=(figure, self.folder, name), name=name)
        process.start()
        self._processes.append(process)
        return name

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for process in self._processes:
            process.join()
        failed = self._failed + [each.name for each in self._processes if each.exitcode]
        if failed and error is None:
            raise RuntimeError(
                f"these figures could not be written: {', '.join(failed)}; see above"
            )


def _write_apart(figure: Figure, folder: Path, name: str) -> None:
    gc.freeze()  # the collector writes to objects, which would copy the shared memory
    _write(figure, folder, name)


def _write(figure: Figure, folder: Path, name: str) -> None:
    # No date in the files, so that their bytes repeat.
    figure.savefig(folder / f"{name}.png", metadata={"Software": None})
    figure.savefig(folder / f"{name}.svg", metadata={"Date": None, "Creator": None})
