"""What a trial's AP was computed from: its predictions and the annotations of its sweep."""

import contextlib
import uuid
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ablations.store.record import PREDICTIONS
from ablations.store.states import TrialState

UNREADABLE = (ValueError, OSError, KeyError, TypeError, IndexError)
"""What reading a damaged file raises."""


@dataclass(frozen=True)
class Scored:
    """A trial's files, with the SHA-256 that its record gives them; ``classes`` are those that
    count."""

    annotations: Path
    annotations_digest: str
    predictions: Path
    predictions_digest: str
    classes: tuple[str, ...]
    work_dir: Path

    @property
    def digests(self) -> str:
        """A name for these very files."""
        return f"{self.predictions_digest[:16]}-{self.annotations_digest[:16]}"


def scored(state: TrialState) -> Scored | None:
    """The files of a trial; ``None`` where it has no record or the sweep does not have them."""
    record = state.record
    if record is None:
        return None
    digest = str(record.data.get("val", {}).get("annotations"))
    work_dir = state.folder.parent.parent
    annotations = work_dir / f"annotations-{digest}.json"
    predictions = record.files.get(PREDICTIONS)
    if predictions is None or not annotations.is_file():
        return None
    return Scored(
        annotations,
        digest,
        state.folder / PREDICTIONS,
        predictions,
        tuple(record.data.get("classes", ())),
        work_dir,
    )


def why(error: Exception) -> str:
    """An error of reading a file, in one line."""
    text = " ".join(str(error).split())
    return f"no {text}" if isinstance(error, KeyError) else text


def write_values(path: Path, values: NDArray[np.float64]) -> None:
    """Write what was computed, for the next report; in a read-only sweep it is computed again."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(exist_ok=True)
        draft = path.with_name(f".{uuid.uuid4().hex[:8]}.npy")
        np.save(draft, values)
        draft.replace(path)


def read_values(path: Path, shape: tuple[int, ...]) -> NDArray[np.float64] | None:
    """What an earlier report has computed, if it is there and whole."""
    try:
        values: NDArray[np.float64] = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return values if values.shape == shape else None
