"""The annotations of a file: whose they are, and whether they count as objects or crowds."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import shorten
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ablations.data.coco.classes import NOT_A_CATEGORY, NOT_A_CLASS, Classes, tell_unlisted
from ablations.data.coco.findings import Findings, counted, first, some
from ablations.data.coco.ids import Id, all_exact, places, plain_ids

_NO_IMAGE = -1

Entries = list[dict[str, Any]]


@dataclass(frozen=True)
class Objects:
    """N annotations of known images and classes, in the file's order."""

    entries: Entries  # [N], the file's own
    rows: NDArray[np.int64]  # [N], where they stand in the file
    image: NDArray[np.int64]  # [N], place among the images
    label: NDArray[np.int64]  # [N], class from 0
    crowd: NDArray[np.bool_]  # [N]

    def chosen(self, mask: NDArray[np.bool_]) -> "Objects":
        """Those that ``mask`` (bool [N]) keeps."""
        entries = [self.entries[place] for place in np.flatnonzero(mask).tolist()]
        return Objects(
            entries, self.rows[mask], self.image[mask], self.label[mask], self.crowd[mask]
        )

    def name(self, place: int) -> str:
        """One of them in brackets: where it stands in the file, its ids and its box."""
        entry = self.entries[place]
        box = shorten(_shown(entry.get("bbox")), 60, placeholder=" ...")
        at = f"annotations[{self.rows[place]}]" + (f", id {entry['id']!r}" if "id" in entry else "")
        return f"(first: {at}, image {entry.get('image_id')!r}, bbox {box})"


def _shown(box: Any) -> str:
    """A box with six digits of each number, or whatever stands in its place."""
    if not isinstance(box, list):
        return repr(box)
    numbers = (f"{side:.6g}" if isinstance(side, float) else repr(side) for side in box)
    return f"[{', '.join(numbers)}]"


def find_objects(
    entries: Entries,
    category_ids: list[Id | None],
    image_places: dict[Id, int],
    classes: Classes,
    categories: Sequence[dict[str, Any]],
    findings: Findings,
) -> Objects:
    """The annotations that belong to an image of the file and to a class of the config.

    Args:
        entries: the file's annotations.
        category_ids: theirs, as they are compared.
        image_places: image id -> its place.
        classes: of the config.
        categories: the file's.
        findings: gets what is wrong and what is left out.
    """
    image = _images_of(entries, image_places, findings)
    label = places(category_ids, classes.numbers, NOT_A_CATEGORY)
    _refuse_strange(
        entries, np.flatnonzero((label == NOT_A_CATEGORY) & (image >= 0)), classes, findings
    )
    other = np.flatnonzero((label == NOT_A_CLASS) & (image >= 0)).tolist()
    counts = Counter(id for id in (category_ids[row] for row in other) if id is not None)
    tell_unlisted(categories, counts, findings)
    rows = np.flatnonzero((image >= 0) & (label >= 0))
    kept = [entries[row] for row in rows.tolist()]
    found = Objects(kept, rows, image[rows], label[rows], np.zeros(len(rows), bool))
    return Objects(kept, rows, image[rows], label[rows], _crowds(found, findings))


def _images_of(entries: Entries, known: dict[Id, int], findings: Findings) -> NDArray[np.int64]:
    """[N]: each annotation's image, ``_NO_IMAGE`` where the file does not list it."""
    ids = plain_ids([entry.get("image_id") for entry in entries])
    found = places(ids, known, _NO_IMAGE)
    lost = np.flatnonzero(found == _NO_IMAGE).tolist()
    without = [row for row in lost if ids[row] is None]
    if without:
        findings.refuse(
            f"{counted(len(without), 'annotation')} without a usable image_id "
            f"{first('annotations', without[0], entries)}",
            "give each the id of its image, or take it out",
        )
    elif lost:
        more = f"image_id {entries[lost[0]]['image_id']!r}"
        findings.mended(
            f"{counted(len(lost), 'annotation')} of images that are not listed left out "
            f"{first('annotations', lost[0], entries, more)}"
        )
    return found


def _refuse_strange(
    entries: Entries, rows: NDArray[np.int64], classes: Classes, findings: Findings
) -> None:
    """Refuse ids of no category. They are not left out: ids that are off by one leave one class's
    boxes without a category, and give all others the wrong one."""
    if not len(rows):
        return
    at = int(rows[0])
    more = f"category_id {entries[at].get('category_id')!r}"
    findings.refuse(
        f"{counted(len(rows), 'annotation')} of no listed category "
        f"{first('annotations', at, entries, more)}; listed are {some(list(classes.numbers))}",
        "correct category_id, list the category, or take the annotations out",
    )


def _crowds(objects: Objects, findings: Findings) -> NDArray[np.bool_]:
    """[N]: whether each is a crowd; one that does not say is none."""
    given = [entry.get("iscrowd") for entry in objects.entries]
    if set(map(type, given)) <= {int} and set(given) <= {0, 1}:
        return np.array(given, dtype=bool)
    wrong = [place for place, value in enumerate(given) if value not in (None, 0, 1)]
    if wrong:
        findings.refuse(
            f"{counted(len(wrong), 'annotation')} whose iscrowd is neither 0 nor 1 but "
            f"{given[wrong[0]]!r} {objects.name(wrong[0])}",
            "write 0 for an object, 1 for a crowd",
        )
    if missing := sum(value is None for value in given):
        findings.mended(f"{counted(missing, 'annotation')} without iscrowd: taken as 0")
    crowd = np.array([value == 1 for value in given], dtype=bool)
    for entry, value in zip(objects.entries, crowd.tolist(), strict=True):
        entry["iscrowd"] = int(value)
    findings.changed = True
    return crowd


def without_ignored(objects: Objects, train: bool, findings: Findings) -> Objects:
    """mmdet does not train on what is marked ``ignore``; COCO's evaluation scores it."""
    ignored = np.array([bool(entry.get("ignore")) for entry in objects.entries], dtype=bool)
    if not ignored.any():
        return objects
    marked = f"{counted(int(ignored.sum()), 'annotation')} marked ignore"
    if not train:
        findings.note(f"{marked} scored like any other, as COCO's evaluation does")
        return objects
    findings.mended(f"{marked} left out")
    return objects.chosen(~ignored)


def number(entries: Entries, findings: Findings) -> None:
    """Give ids from 1 where the file's cannot be used. 0 cannot: pycocotools takes a match to the
    annotation 0 for none."""
    given = [entry.get("id") for entry in entries]
    ids = plain_ids(given)
    distinct = len(set(ids))
    if not all_exact(ids):
        why = "are not all whole numbers below 2^53"
    elif distinct < len(ids):
        why = f"are not unique ({len(ids) - distinct:,} used again)"
    elif min(ids, default=1) <= 0:  # type: ignore[type-var, operator]
        why = "begin at 0 or below"
    elif set(map(type, given)) != {int}:
        why = "are written as text or with decimals"
    else:
        return
    findings.mended(f"its annotation ids {why}: numbered from 1")
    for new, entry in enumerate(entries, 1):
        entry["id"] = new
