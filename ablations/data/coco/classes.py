"""The config's classes and a file's categories, matched by name."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ablations.data.coco.findings import Findings, counted, first, some
from ablations.data.coco.ids import Id, is_exact, plain_id

NOT_A_CLASS, NOT_A_CATEGORY = -1, -2

_COCO = """
    person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light,
    fire hydrant, stop sign, parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant,
    bear, zebra, giraffe, backpack, umbrella, handbag, tie, suitcase, frisbee, skis, snowboard,
    sports ball, kite, baseball bat, baseball glove, skateboard, surfboard, tennis racket, bottle,
    wine glass, cup, fork, knife, spoon, bowl, banana, apple, sandwich, orange, broccoli, carrot,
    hot dog, pizza, donut, cake, chair, couch, potted plant, bed, dining table, toilet, tv, laptop,
    mouse, remote, keyboard, cell phone, microwave, oven, toaster, sink, refrigerator, book, clock,
    vase, scissors, teddy bear, hair drier, toothbrush
"""
COCO_CLASSES = tuple(name.strip() for name in _COCO.split(","))
"""What mmdet's CocoDataset takes for the classes of a config that names none."""


@dataclass(frozen=True)
class Classes:
    """``numbers``: category id -> class, from 0, or ``NOT_A_CLASS``; ``categories`` as they are
    written: the classes in their order, with the file's ids where it has the same order, or else
    from 1."""

    numbers: dict[Id, int]
    categories: list[dict[str, Any]]

    @property
    def names(self) -> tuple[Any, ...]:
        """The classes in their order."""
        return tuple(category["name"] for category in self.categories)


def match_classes(
    categories: Sequence[dict[str, Any]],
    names: Sequence[Any] | None,
    used: set[Id | None],
    findings: Findings,
) -> Classes:
    """Find each class among the categories.

    Args:
        categories: the file's.
        names: the config's classes; ``None`` takes the file's, in its order.
        used: ids of the categories that have annotations.
        findings: gets what is wrong.
    """
    by_name = _by_name(categories, findings)
    wanted = [_key(name) for name in names] if names is not None else list(by_name)
    given = list(names) if names is not None else wanted
    _refuse_missing(given, by_name, findings)
    numbers = {id: NOT_A_CLASS for group in by_name.values() for id in group}
    # COCO's own have gaps, which do no harm, and predictions are compared by them.
    plain = (
        all(map(_has_plain_id, categories)) and [_key(c.get("name")) for c in categories] == wanted
    )
    listed = []
    for number, (name, key) in enumerate(zip(given, wanted, strict=True)):
        group = by_name.get(key, {})
        owners = [id for id in group if id in used] or list(group)
        if len(group) > 1:
            _one_of_several(key, list(group), [id for id in group if id in used], findings)
        numbers |= dict.fromkeys(group, number)
        entry = group[owners[0]] if owners else {}
        listed.append({**entry, "id": entry["id"] if plain else number + 1, "name": name})
    _tell_order(by_name, wanted, findings)
    findings.changed |= listed != list(categories)
    return Classes(numbers, listed)


def _has_plain_id(category: dict[str, Any]) -> bool:
    return type(category.get("id")) is int and is_exact(category["id"])


def _key(name: Any) -> str:
    """A name as it is compared: accents in one of their two spellings."""
    return unicodedata.normalize("NFC", str(name))


def _by_name(
    categories: Sequence[dict[str, Any]], findings: Findings
) -> dict[str, dict[Id, dict[str, Any]]]:
    """Name -> id -> entry."""
    found: dict[str, dict[Id, dict[str, Any]]] = {}
    owner: dict[Id, tuple[int, str]] = {}
    nameless, idless = [], []
    for index, category in enumerate(categories):
        name, id = category.get("name"), plain_id(category.get("id"))
        if isinstance(name, bool) or not isinstance(name, str | int) or name == "":
            nameless.append(index)
            continue
        if id is None:
            idless.append(index)
            continue
        held, known = owner.setdefault(id, (index, _key(name)))
        if known != _key(name):
            findings.refuse(
                f"categories[{held}] and categories[{index}] have one id, {id!r}, and the names "
                f"{known!r} and {_key(name)!r}",
                "give every category an id of its own",
            )
        found.setdefault(_key(name), {}).setdefault(id, category)
    for what, wrong in (("name", nameless), ("id", idless)):
        if wrong:
            plural = "1 category" if len(wrong) == 1 else f"{len(wrong)} categories"
            findings.refuse(
                f"{plural} without {what} {first('categories', wrong[0], categories)}",
                f"give each its {what}, or remove it",
            )
    return found


def _refuse_missing(names: Sequence[Any], there: dict[str, Any], findings: Findings) -> None:
    missing = [name for name in names if _key(name) not in there]
    if not missing:
        return
    mend = "name the classes in metainfo=dict(classes=(...)) as the file does"
    if tuple(names) == COCO_CLASSES:
        mend = f"the config names no classes, so COCO's 80 are meant; {mend}"
    findings.refuse(f"it has no class {some(missing)}; it has {some(sorted(there))}", mend)


def _one_of_several(name: str, ids: list[Id], used: list[Id], findings: Findings) -> None:
    """A name that several categories bear: one class, if only one of them has annotations."""
    if len(used) > 1:
        findings.refuse(
            f"the category {name!r} is listed {len(ids)} times (ids {some(ids)}), and "
            f"{len(used)} of them have annotations",
            "rename them if they are not the same, or give their annotations one id",
        )
        return
    findings.mended(
        f"the category {name!r} is listed {len(ids)} times (ids {some(ids)}): taken as one, only "
        f"{'id ' + repr(used[0]) if used else 'none'} has annotations"
    )


def _tell_order(
    by_name: dict[str, dict[Id, Any]], wanted: Sequence[str], findings: Findings
) -> None:
    shared = [name for name in by_name if name in set(wanted)]
    if shared != [name for name in wanted if name in by_name]:
        findings.mended("its categories are in another order than the classes: matched by name")


def tell_unlisted(
    categories: Sequence[dict[str, Any]], counts: dict[Id, int], findings: Findings
) -> None:
    """Say how many annotations are of categories that are no classes of the config."""
    if not counts:
        return
    names = [c.get("name") for c in categories if plain_id(c.get("id")) in counts]
    total = counted(sum(counts.values()), "annotation")
    findings.mended(f"{total} of categories that are no class here left out ({some(names)})")
