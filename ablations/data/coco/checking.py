"""One annotation file, read once: checked, put right or refused."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ablations.data.coco.annotations import Entries, Objects, find_objects, number, without_ignored
from ablations.data.coco.boxes import Judged, areas_of, from_polygons, judge, numbers
from ablations.data.coco.classes import Classes, match_classes
from ablations.data.coco.findings import Findings, RefusedError, counted, some
from ablations.data.coco.ids import plain_ids
from ablations.data.coco.images import Images, check_images
from ablations.data.coco.reading import read, without_collections

VERSION = 1
"""Goes up when the same file gives other checked content than before."""


@dataclass(frozen=True)
class Split:
    """One annotation file as a config names it."""

    file: Path
    images_dir: Path
    train: bool  # whether it is trained on, or scored
    classes: tuple[Any, ...] | None = None  # in the config's order; None: the file's own
    min_size: int = 0  # images less wide or high than that are not trained on
    masks: bool = False  # keep the segmentations: the pipeline loads masks


@dataclass(frozen=True)
class Checked:
    """What became of a file: its error, or its content."""

    split: Split
    notes: list[str]  # what was mended, and what else is worth knowing
    error: str | None = None  # one line with all mistakes
    content: dict[str, Any] | None = None  # COCO; None if it was refused
    changed: bool = True  # whether the content differs from the file's
    source: str = ""  # SHA-256 of the file
    classes: tuple[Any, ...] = ()
    paths: tuple[str, ...] = ()  # of the images
    boxes: int = 0  # that are trained on or scored, crowds not counted
    crowds: int = 0


def check(split: Split, decode: bool | None = None) -> Checked:
    """Check an annotation file and its images.

    Segmentations are left out of content that is changed, unless ``split.masks``; other keys that
    nothing here reads are carried along.

    Args:
        split: the file and what the config makes of it.
        decode: decode all images, or none; by default all where that takes less than a minute, and
            else a sample.
    """
    findings = Findings(split.file)
    try:
        with without_collections():
            content, digest = read(split.file, findings, split.masks)
            return _checked(split, content, digest, decode, findings)
    except RefusedError as error:
        return Checked(split, findings.notes, error=str(error))


def _checked(
    split: Split, content: dict[str, Any], digest: str, decode: bool | None, findings: Findings
) -> Checked:
    entries: Entries = content["annotations"]
    category_ids = plain_ids([entry.get("category_id") for entry in entries])
    used = set(category_ids)
    classes = match_classes(content["categories"], split.classes, used, findings)
    images = check_images(content["images"], split.images_dir, decode, findings)
    objects = find_objects(
        entries, category_ids, images.places, classes, content["categories"], findings
    )
    objects = without_ignored(objects, split.train, findings)
    judged = _judge(split, objects, images, findings)
    if findings.errors or judged is None:
        return Checked(split, findings.notes, error=findings.error)
    kept = objects.chosen(judged.keep)
    counts = _trained_on(split, kept, images, findings)
    _refuse_nothing(split, entries, kept, counts, findings)
    _tell_empty_classes(split, classes, kept, findings)
    if findings.errors:
        return Checked(split, findings.notes, error=findings.error)
    findings.changed |= len(kept.entries) < len(entries)
    category_of = [category["id"] for category in classes.categories]
    _write(split, objects, judged, kept, images, category_of, findings)
    return Checked(
        split,
        findings.notes,
        content={
            **content,
            "images": images.entries,
            "annotations": kept.entries,
            "categories": classes.categories,
        },
        changed=findings.changed,
        source=digest,
        classes=classes.names,
        paths=tuple(images.paths),
        boxes=int((counts & ~kept.crowd).sum()),
        crowds=int((counts & kept.crowd).sum()),
    )


def _judge(split: Split, objects: Objects, images: Images, findings: Findings) -> Judged | None:
    given = [entry.get("bbox") for entry in objects.entries]
    if not all(given):
        _compute_boxes(split, objects, given, findings)
    boxes = numbers(given, objects.name, findings)
    if boxes is None:
        return None
    areas = areas_of([entry.get("area") for entry in objects.entries])
    size, declared = images.size[objects.image], images.declared[objects.image]
    return judge(boxes, size, declared, areas, split.train, objects.name, findings)


def _compute_boxes(split: Split, objects: Objects, given: list[Any], findings: Findings) -> None:
    """Boxes that are missing, from the polygons, for which the file is read once more."""
    whole, _ = read(split.file, Findings(split.file), masks=True)
    computed = 0
    for place, row in enumerate(objects.rows.tolist()):
        box = from_polygons(whole["annotations"][row].get("segmentation"))
        if not given[place] and box is not None:
            given[place] = objects.entries[place]["bbox"] = box
            computed += 1
    if computed:
        n = counted(computed, "annotation")
        findings.mended(f"{n} without bbox: the box around the segmentation")


def _trained_on(
    split: Split, objects: Objects, images: Images, findings: Findings
) -> NDArray[np.bool_]:
    """[N]: whether each one's image is large enough to be trained on."""
    small = images.size.min(axis=1) < split.min_size
    if split.train and small.any():
        findings.note(
            f"{counted(int(small.sum()), 'image')} less than {split.min_size} px wide or high: the "
            "config's filter_cfg does not train on them"
        )
        return ~small[objects.image]
    return np.ones(len(objects.entries), bool)


def _refuse_nothing(
    split: Split,
    entries: Entries,
    kept: Objects,
    counts: NDArray[np.bool_],
    findings: Findings,
) -> None:
    if (counts & ~kept.crowd).any():
        return
    why = "there is nothing to train on" if split.train else "AP is undefined"
    if not entries:
        findings.refuse("it has no annotations", why)
    elif len(kept.entries) and kept.crowd.all():
        findings.refuse("all its annotations are crowds", why)
    else:
        done = f" ({'; '.join(findings.notes)})" if findings.notes else ""
        findings.refuse(f"none of its {len(entries):,} annotations can be used{done}", why)


def _tell_empty_classes(split: Split, classes: Classes, kept: Objects, findings: Findings) -> None:
    counts = np.bincount(kept.label[~kept.crowd], minlength=len(classes.names))
    if findings.errors or counts.all():
        return
    names = some([name for name, count in zip(classes.names, counts, strict=True) if not count])
    left = "cannot be learned" if split.train else "are left out of AP"
    findings.note(f"no boxes of {names}, which {left}")


def _write(
    split: Split,
    objects: Objects,
    judged: Judged,
    kept: Objects,
    images: Images,
    category_of: list[int],
    findings: Findings,
) -> None:
    """Put what is new into the annotations that are kept."""
    for place in np.flatnonzero(judged.clipped).tolist():
        objects.entries[place]["bbox"] = judged.boxes[place].tolist()
    for place in np.flatnonzero(judged.new_area).tolist():
        objects.entries[place]["area"] = float(judged.areas[place])
    image_ids = [images.entries[place]["id"] for place in kept.image.tolist()]
    category_ids = [category_of[label] for label in kept.label.tolist()]
    for key, values in (("image_id", image_ids), ("category_id", category_ids)):
        if [entry[key] for entry in kept.entries] != values:
            findings.changed = True
            for entry, value in zip(kept.entries, values, strict=True):
                entry[key] = value
    number(kept.entries, findings)
    if findings.changed and not split.masks:
        for entry in kept.entries:
            entry.pop("segmentation", None)
