"""A small annotation file with its images, to be damaged in one way at a time."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from ablations.data.coco import Checked, Split, check

CLASSES = ("cat", "dog")
SIZE = (64, 48)  # px


@dataclass
class Case:
    """Six images of 64 x 48 px with two boxes each, as an annotation file and a folder."""

    root: Path
    content: dict[str, Any] = field(default_factory=dict)
    train: bool = False
    text: Callable[[str], bytes] = str.encode  # how the file is written

    @property
    def images(self) -> list[dict[str, Any]]:
        return self.content["images"]

    @property
    def annotations(self) -> list[dict[str, Any]]:
        return self.content["annotations"]

    @property
    def file(self) -> Path:
        return self.root / "annotations.json"

    def write(self) -> None:
        self.file.write_bytes(self.text(json.dumps(self.content)))

    def check(self, decode: bool | None = None, **options: Any) -> Checked:
        """Write the file and check it."""
        self.write()
        options = {"classes": CLASSES, **options}
        return check(Split(self.file, self.root / "images", self.train, **options), decode)

    def passes(self, *words: str, **options: Any) -> dict[str, Any]:
        """The checked content; ``words`` stand together in one of the notes."""
        found = self.check(**options)
        assert found.error is None
        assert not words or any(all(w in note for w in words) for note in found.notes), found.notes
        assert found.content is not None
        return found.content

    def refused(self, *words: str, **options: Any) -> str:
        """The error, which is one line, names the file and holds ``words``."""
        found = self.check(**options)
        assert found.error is not None, found.notes
        assert found.content is None
        for word in (str(self.file), *words):
            assert word in found.error
        assert "\n" not in found.error
        return found.error


@pytest.fixture
def case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Case:
    """A clean case."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    images, annotations = [], []
    for number in range(1, 7):
        picture = rng.integers(0, 256, (SIZE[1], SIZE[0], 3), dtype=np.uint8)
        cv2.imwrite(str(tmp_path / "images" / f"{number}.png"), picture)
        images.append(dict(id=number, file_name=f"{number}.png", width=SIZE[0], height=SIZE[1]))
        for label in (1, 2):
            box = [4 * label, 5 * label, 10 + number, 12]
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=number,
                    category_id=label,
                    bbox=box,
                    area=box[2] * box[3],
                    iscrowd=0,
                )
            )
    categories = [dict(id=1, name="cat"), dict(id=2, name="dog")]
    content = dict(images=images, annotations=annotations, categories=categories)
    return Case(tmp_path, content)
