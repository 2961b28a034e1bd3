"""Shows a running sweep: a live table in a terminal, plain lines elsewhere."""

from collections.abc import Sequence
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.table import Table

from ablations.store.states import TrialState

_STYLES = {
    "finished": "green",
    "diverged": "yellow",
    "failed": "bold red",
    "interrupted": "yellow",
    "damaged": "bold red",
    "running": "cyan",
    "pending": "dim",
}


def duration(seconds: float) -> str:
    """``1:02:03`` or ``2:03``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def describe(state: TrialState) -> tuple[str, str, str, str]:
    """A trial's state, iteration, loss (or AP) and time left, as text."""
    if state.record is not None:
        metrics = state.record.metrics
        value = f"AP {metrics['AP']:.1f}" if metrics.get("AP") is not None else ""
        return state.state, "", value, ""
    progress = state.progress
    phase = progress.get("state", "") if state.state == "running" else ""
    if not {"iteration", "iterations", "iteration_s"} <= set(progress):
        return phase or state.state, "", "", ""
    done, total = progress["iteration"], progress["iterations"]
    loss = f"{progress['loss']:.3f}" if progress.get("loss") is not None else ""
    left = duration((total - done) * progress["iteration_s"]) if state.state == "running" else ""
    return phase or state.state, f"{done}/{total}", loss, left


def in_columns(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table as text. (rich's tables take minutes for ten thousand rows.)"""
    lines = [header, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


class Display:
    """Shows the trials while its ``with`` block runs; call it with their states."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False)
        self._live: Live | None = None
        self._shown: dict[str, str] = {}
        self._noted: dict[str, str] = {}

    def __enter__(self) -> "Display":
        if self.console.is_terminal:
            self._live = Live(console=self.console, refresh_per_second=2)
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def __call__(self, states: Sequence[TrialState]) -> None:
        self._notes(states)
        if self._live is not None:
            self._live.update(self._table(states))
        else:
            self._lines(states)

    def _notes(self, states: Sequence[TrialState]) -> None:
        for state in states:
            note, entry = state.progress.get("note"), state.entry
            if note and self._noted.get(entry.id) != note:
                self._noted[entry.id] = note
                line = f"{entry.label} seed {entry.seed} ({entry.id}): {note}"
                self.console.print(line, markup=False, soft_wrap=True)

    def _table(self, states: Sequence[TrialState]) -> Table:
        table = Table(box=None, pad_edge=False)
        for name in ("trial", "point", "seed", "state", "iteration", "loss", "left"):
            table.add_column(name, justify="left" if name in ("trial", "point") else "right")
        # Show as many rows as fit: running trials first, the others in their order.
        room = max(5, self.console.height - 5)
        order = sorted(range(len(states)), key=lambda number: states[number].state != "running")
        for state in (states[number] for number in sorted(order[:room])):
            text, *rest = describe(state)
            style = _STYLES.get(state.state, "")
            shown = f"[{style}]{text}[/]" if style else text
            entry = state.entry
            table.add_row(entry.id, entry.label, str(entry.seed), shown, *rest)
        done = sum(state.record is not None for state in states)
        table.caption = f"{done} of {len(states)} trials done"
        return table

    def _lines(self, states: Sequence[TrialState]) -> None:
        done = sum(state.record is not None for state in states)
        for state in states:
            entry = state.entry
            if self._shown.get(entry.id) == state.state:
                continue
            self._shown[entry.id] = state.state
            if state.state == "pending":
                continue
            value = describe(state)[2] if state.record is not None else ""
            tail = f": {state.reason}" if state.reason else f" {value}".rstrip()
            self.console.print(
                f"[{done}/{len(states)}] {entry.label} seed {entry.seed} ({entry.id}): "
                f"{state.state}{tail}",
                markup=False,
                soft_wrap=True,
            )
