"""The images of an annotation file: their ids, their files and their sizes."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ablations.data.coco.files import ImageFiles, look_at
from ablations.data.coco.findings import Findings, counted, first
from ablations.data.coco.ids import Id, is_exact, plain_ids

RESIZED_FROM = 10  # as many images that are all off by one factor have been resized


@dataclass(frozen=True)
class Images:
    """I images. ``entries`` are as they are written, ``places`` finds one by the file's id."""

    entries: list[dict[str, Any]]
    places: dict[Id, int]
    size: NDArray[np.float64]  # [I, 2] width, height as decoded; infinite where it is not known
    declared: NDArray[np.float64]  # [I, 2] as the file says; NaN where it does not
    paths: list[str]


def check_images(
    entries: list[dict[str, Any]], folder: Path, decode: bool | None, findings: Findings
) -> Images:
    """Check the images' entries and their files, and put right what can be.

    Args:
        entries: the file's; they are changed.
        folder: that the file names are in.
        decode: see ``files.look_at``.
        findings: gets what is wrong and what was mended.
    """
    if not entries:
        findings.refuse("it lists no images", "there is nothing to train on or to score")
    entries, ids = _identified(entries, findings)
    names = [entry.get("file_name") for entry in entries]
    nameless = [i for i, name in enumerate(names) if not isinstance(name, str) or not name]
    if nameless:
        findings.refuse(
            f"{counted(len(nameless), 'image')} without file_name "
            f"{first('images', nameless[0], entries)}",
            "give each the name of its file",
        )
    paths = [_path(folder, name) for name in names]
    _turn_backslashes(entries, paths, folder, findings)
    named = [i for i, path in enumerate(paths) if path]
    found = look_at([paths[i] for i in named], folder, decode)
    _refuse_files(found, named, paths, entries, folder, findings)
    declared = _declared(entries)
    size = np.full((len(entries), 2), np.inf)
    turned = np.zeros(len(entries), bool)
    for place, known in zip(named, found.sizes, strict=True):
        if known is not None:
            size[place], turned[place] = (known.width, known.height), known.turned
    _compare_sizes(entries, size, declared, turned, findings)
    places = {id: place for place, id in enumerate(ids) if id is not None}
    return Images(entries, places, size, declared, paths)


def _path(folder: Path, name: Any) -> str:
    """As mmdet joins them; empty where there is no name. (A Path takes ten times as long.)"""
    return os.path.join(folder, name) if isinstance(name, str) and name else ""  # noqa: PTH118


def _identified(
    entries: list[dict[str, Any]], findings: Findings
) -> tuple[list[dict[str, Any]], list[Id | None]]:
    """The entries with usable ids, and the file's ids, as they are compared."""
    given = [entry.get("id") for entry in entries]
    ids = plain_ids(given)
    idless = [index for index, id in enumerate(ids) if id is None]
    if idless:
        findings.refuse(
            f"{counted(len(idless), 'image')} without a usable id "
            f"{first('images', idless[0], entries)}",
            "give each a number of its own",
        )
    entries, ids = _each_once(entries, ids, findings)
    renumbered = [index for index, id in enumerate(ids) if id is not None and not is_exact(id)]
    if renumbered:
        example = first("images", renumbered[0], entries)
        findings.mended(
            f"{counted(len(renumbered), 'image')} with an id of letters or beyond 2^53 {example}: "
            "all are numbered from 1, their own ids kept as id_in_file"
        )
        for number, entry in enumerate(entries, 1):
            entry["id_in_file"], entry["id"] = entry["id"], number
    elif ids and not idless and [type(entry["id"]) for entry in entries] != [int] * len(ids):
        findings.mended("its image ids are written as text or with decimals: read as whole numbers")
        for entry, id in zip(entries, ids, strict=True):
            entry["id"] = id
    return entries, ids


def _each_once(
    entries: list[dict[str, Any]], ids: list[Id | None], findings: Findings
) -> tuple[list[dict[str, Any]], list[Id | None]]:
    """One entry an id: a second one of the same file goes, one of another file is refused."""
    if len(set(ids)) == len(ids):
        return entries, ids
    held: dict[Id | None, int] = {}
    repeated: list[tuple[int, int]] = []
    clashing: list[tuple[int, int]] = []
    for index, id in enumerate(ids):
        before = held.setdefault(id, index)
        if before != index and id is not None:
            same = entries[before].get("file_name") == entries[index].get("file_name")
            (repeated if same else clashing).append((before, index))
    if clashing:
        one, other = clashing[0]
        findings.refuse(
            f"{counted(len(clashing), 'image')} with the id of another (first: images[{one}] and "
            f"images[{other}], id {entries[other]['id']!r}), so its boxes may be of either",
            "give every image an id of its own, and its annotations too",
        )
    if repeated:
        again = {index for _, index in repeated}
        findings.mended(f"{counted(len(again), 'image')} listed twice: taken once")
        kept = [index for index in range(len(ids)) if index not in again]
        return [entries[index] for index in kept], [ids[index] for index in kept]
    return entries, ids


def _turn_backslashes(
    entries: Sequence[dict[str, Any]], paths: list[str], folder: Path, findings: Findings
) -> None:
    turned = 0
    for index, path in enumerate(paths):
        if "\\" in path and not os.path.exists(path):  # noqa: PTH110
            name = entries[index]["file_name"].replace("\\", "/")
            if (folder / name).is_file():
                entries[index]["file_name"], paths[index] = name, _path(folder, name)
                turned += 1
    if turned:
        findings.mended(f"{counted(turned, 'file name')} with backslashes: slashes instead")


def _refuse_files(
    found: ImageFiles,
    named: list[int],
    paths: list[str],
    entries: Sequence[dict[str, Any]],
    folder: Path,
    findings: Findings,
) -> None:
    def refuse(indices: Sequence[int], what: str, why: str, mend: str) -> None:
        place = named[indices[0]]
        example = first("images", place, entries, f"{paths[place]} {why}")
        findings.refuse(f"{counted(len(indices), 'image file')} {what} {example}", mend)

    if found.missing:
        hint = "put them there, or set data_root and data_prefix to where they are"
        refuse(found.missing, "missing", "does not exist", hint)
    if found.empty:
        refuse(found.empty, "empty", "has 0 bytes", "copy them again, or take them out")
    if found.damaged:
        worst = sorted(found.damaged)
        mend = "copy them again, or take them and their annotations out"
        refuse(worst, "damaged", f"({found.damaged[worst[0]]})", mend)
    good = len(named) - len(found.missing) - len(found.empty) - len(found.damaged)
    if found.all_s > 0:
        findings.note(
            f"{found.decoded:,} of {good:,} images were decoded; the rest would take about "
            f"{found.all_s / 60:.0f} min (--check-images does it)"
        )


def _declared(entries: Sequence[dict[str, Any]]) -> NDArray[np.float64]:
    """[I, 2]: the widths and heights that the file gives; NaN where they are no sizes."""

    def number(value: Any) -> float:
        usable = isinstance(value, int | float) and not isinstance(value, bool) and value > 0
        return float(min(value, 1e9)) if usable else np.nan

    flat = [number(entry.get(side)) for entry in entries for side in ("width", "height")]
    return np.array(flat, dtype=np.float64).reshape(-1, 2)


def _compare_sizes(
    entries: list[dict[str, Any]],
    size: NDArray[np.float64],
    declared: NDArray[np.float64],
    turned: NDArray[np.bool_],
    findings: Findings,
) -> None:
    """Fill in and correct the sizes that the file gives, or refuse where boxes would be wrong."""
    known = np.isfinite(size).all(axis=1)
    given = ~np.isnan(declared).any(axis=1)
    off = known & given & (declared != size).any(axis=1)
    lying = np.flatnonzero(off & turned & (declared == size[:, ::-1]).all(axis=1))
    if len(lying):
        at = lying[0]
        findings.refuse(
            f"{counted(len(lying), 'image')} turned by EXIF orientation have the size of the "
            f"unturned image {first('images', int(at), entries, _sizes(declared[at], size[at]))}, "
            "so their boxes may be turned or not",
            "give the size of the upright image if the boxes fit it, or save the images upright",
        )
    factor = (declared[off] / size[off]).ravel()
    same = off.sum() >= RESIZED_FROM and off.sum() == (known & given).sum()
    if same and factor.max() < 1.01 * factor.min():
        at = np.flatnonzero(off)[0]
        findings.refuse(
            f"all {off.sum():,} images differ in size from what is given, by one factor "
            f"{first('images', int(at), entries, _sizes(declared[at], size[at]))}: resized",
            "resize their boxes too; if the boxes do fit, take width and height out",
        )
    missing = np.flatnonzero(known & ~given)
    wrong = np.flatnonzero(off)
    if len(missing):
        n = counted(len(missing), "image")
        findings.mended(f"{n} without width and height: taken from the image files")
    if len(wrong):
        at = int(wrong[0])
        example = first("images", at, entries, _sizes(declared[at], size[at]))
        findings.mended(
            f"{counted(len(wrong), 'image')} with another size than their files {example}: "
            "the files' are taken"
        )
    for place in (*missing, *wrong):
        entries[place]["width"], entries[place]["height"] = map(int, size[place])


def _sizes(declared: NDArray[np.float64], size: NDArray[np.float64]) -> str:
    (w, h), (width, height) = declared, size
    return f"{w:g} x {h:g} where the decoded file has {width:g} x {height:g} pixels"
