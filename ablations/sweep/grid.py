"""Grids: which points a sweep visits, written as data.

A grid file is a Python config of a few lines::

    title = "FL over gamma and alpha, and plain CE"
    table = "table_1b"                      # the paper's table it answers, or None
    blocks = [
        dict(
            product=dict(gamma=[0, 1, 2], alpha=[0.25, 0.5]),
            set={"model.bbox_head.loss_cls": dict(
                type="ablations.FocalLoss", gamma="$gamma", alpha="$alpha")},
        ),
        dict(points=[dict(loss="CE")],
             set={"model.bbox_head.loss_cls": dict(type="ablations.CrossEntropyLoss")}),
    ]

A block lists its points as a ``product`` of axes, a ``zip`` of axes of one length, or explicit
``points``. ``set`` maps paths in the config to what stands there at the block's points; ``"$axis"``
is the point's value on an axis, and ``{"$by": "axis", value: ...}`` chooses by it. A value
replaces what the config has at that path; the path must exist, unless a ``+`` before it says that
its last key may be new: ``"+model.bbox_head.batch_anchors"``.

``{"$by": "protocol", "embedded": ..., "paper": ...}``, at any place in the file, chooses by the
``protocol`` that the config declares: the paper's values on the paper's detector, smaller ones on
a detector for a CPU. A config that declares none gets the paper's.

``{"$config": FILE}`` stands for what another config has at the same path. So a point can name a
whole detector, ``set={"model": {"$config": "configs/ssd_r18_digits.py"}}``, also one that mmdet
ships: ``"mmdet::ssd/ssd300_coco.py"``. Paths of ``set`` are set in their order: what follows
changes that detector.

Names that begin with an underscore are the file's own.

``baseline`` is the label of the cell that the report takes differences against, where that is not
plain CE. ``tune`` names an axis that is no question of its own, such as a learning rate: the report
then compares the other coordinates each at its own best value of it, too.
"""

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config

from ablations.shipped import configs_folder
from ablations.sweep.errors import UsageError, one_of
from ablations.sweep.plain_values import check_kind, check_plain

GRIDS = configs_folder() / "grids"

PROTOCOLS = ("embedded", "paper")
DEFAULT_PROTOCOL = "paper"  # of a config that declares none

FROM_CONFIG = "$config"

_BARE = ("loss", "detector")  # axes whose value stands in a label without the axis's name
_KEYS = {"title", "table", "note", "baseline", "tune", "config", "blocks"}
_LISTINGS = ("product", "zip", "points")


@dataclass(frozen=True)
class Point:
    """One cell of the grid: its coordinates, and what they change in the config."""

    coordinates: dict[str, Any]
    overrides: dict[str, Any]  # config path -> value

    @property
    def label(self) -> str:
        """The coordinates for people: ``gamma=2 alpha=0.25``; a loss or detector is its name."""
        return " ".join(
            str(value) if name in _BARE else f"{name}={_plain(value)}"
            for name, value in self.coordinates.items()
        )


@dataclass(frozen=True)
class Grid:
    """A grid as read from its file."""

    name: str
    title: str
    table: str | None
    note: str
    baseline: str | None  # label of the cell to compare with
    tune: str | None  # axis whose best value each arm may take
    points: list[Point]

    def describe(self) -> dict[str, Any]:
        """What the manifest keeps of it."""
        said = {
            "name": self.name,
            "title": self.title,
            "table": self.table,
            "note": self.note,
            "baseline": self.baseline,
        }
        return said if self.tune is None else said | {"tune": self.tune}


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def read_grid(name: str) -> tuple[str, dict[str, Any]]:
    """The name and the data of a grid, unresolved.

    Raises:
        UsageError: there is no such grid, or its file cannot be read.
    """
    path = Path(name)
    if path.suffix != ".py":
        path = GRIDS / f"{name}.py"
    if not path.is_file():
        raise UsageError(one_of("grid", name, sorted(file.stem for file in GRIDS.glob("*.py"))))
    try:
        loaded = Config.fromfile(path, import_custom_modules=False)
    except Exception as error:
        raise UsageError(f"grid {path} cannot be read: {error}") from error
    spec = loaded._cfg_dict.to_dict()
    return path.stem, {key: value for key, value in spec.items() if not key.startswith("_")}


def parse_grid(name: str, spec: dict[str, Any], protocol: str = DEFAULT_PROTOCOL) -> Grid:
    """Make a grid of its data.

    Raises:
        UsageError: a key is missing or unknown, or a block cannot be read; the message says where.
    """
    if protocol not in PROTOCOLS:
        raise UsageError("the config: " + one_of("protocol", protocol, PROTOCOLS))
    unknown = set(spec) - _KEYS
    if unknown:
        raise UsageError(f"grid {name}: " + one_of("key", min(unknown), sorted(_KEYS)))
    check_plain(f"grid {name}", spec)
    spec = _by_protocol(f"grid {name}", spec, protocol)
    for key in ("title", "table", "note", "baseline", "tune", "config"):
        check_kind(f"grid {name}: {key}", spec.get(key), str, type(None))
    check_kind(f"grid {name}: blocks", spec.get("blocks", []), list, tuple)
    points: list[Point] = []
    places: list[int] = []  # the block of each point
    for number, block in enumerate(spec.get("blocks", [])):
        points += _block_points(f"grid {name}, block {number}", block)
        places += [number] * (len(points) - len(places))
    _check_labels(name, points, places)
    if not points:
        raise UsageError(f"grid {name} has no points: 'blocks' is missing or empty")
    baseline = spec.get("baseline")
    labels = [point.label for point in points]
    if baseline is not None and baseline not in labels:
        raise UsageError(f"grid {name}: " + one_of("baseline", baseline, labels))
    tune, axes = spec.get("tune"), {axis for point in points for axis in point.coordinates}
    if tune is not None and tune not in axes:
        raise UsageError(f"grid {name}: 'tune': " + one_of("axis", tune, sorted(axes)))
    return Grid(
        name=name,
        title=spec.get("title") or name,
        table=spec.get("table"),
        note=spec.get("note") or "",
        baseline=baseline,
        tune=tune,
        points=points,
    )


def _check_labels(name: str, points: list[Point], places: list[int]) -> None:
    """Refuse two points with one label: it names a cell in the manifest and the report."""
    first: dict[str, int] = {}
    for index, point in enumerate(points):
        if not point.label.isprintable() or not point.label:
            raise UsageError(f"grid {name}: {point.label!r} is no label: it must be one line")
        before = first.setdefault(point.label, index)
        if before != index:
            both = (f"{points[i].coordinates} of block {places[i]}" for i in (before, index))
            raise UsageError(
                f"grid {name}: two points are labelled {point.label!r}: {' and '.join(both)}; "
                "labels show six digits of a number"
            )


def _by_protocol(where: str, value: Any, protocol: str) -> Any:
    """Choose wherever ``{"$by": "protocol", ...}`` stands; everything else stays."""
    if isinstance(value, dict) and value.get("$by") == "protocol":
        return _by_protocol(where, _case(where, value, protocol), protocol)
    if isinstance(value, dict):
        return {key: _by_protocol(where, item, protocol) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_by_protocol(where, item, protocol) for item in value)
    return value


def _block_points(where: str, block: dict[str, Any]) -> list[Point]:
    check_kind(where, block, dict)
    listings = [key for key in _LISTINGS if key in block]
    unknown = set(block) - {*_LISTINGS, "set"}
    if len(listings) != 1 or unknown or "set" not in block:
        raise UsageError(
            f"{where} has keys {sorted(map(str, block))}; it takes 'set' and one of "
            f"{', '.join(_LISTINGS)}"
        )
    listing = block[listings[0]]
    place = f"{where}: {listings[0]}"
    for path in check_kind(f"{where}: set", block["set"], dict):
        check_kind(f"{where}: the path {path!r} in set", path, str)
    if listings[0] == "points":
        check_kind(place, listing, list, tuple)
        coordinates = [dict(check_kind(f"{place}: a point", point, dict)) for point in listing]
    else:
        for axis, values in check_kind(place, listing, dict).items():
            check_kind(f"{place}: axis {axis}", values, list, tuple)
        lengths = {len(values) for values in listing.values()}
        if listings[0] == "zip" and len(lengths) != 1:
            raise UsageError(f"{where}: zipped axes have different lengths {sorted(lengths)}")
        rows = (
            itertools.product(*listing.values())
            if listings[0] == "product"
            else zip(*listing.values(), strict=True)
        )
        coordinates = [dict(zip(listing, row, strict=True)) for row in rows]
    for axis in {axis for point in coordinates for axis in point}:
        check_kind(f"{place}: the name {axis!r} of an axis", axis, str)
    return [
        Point(point, {path: _fill(where, value, point) for path, value in block["set"].items()})
        for point in coordinates
    ]


def _fill(where: str, value: Any, point: dict[str, Any]) -> Any:
    """Put the point's coordinates into ``"$axis"`` and ``{"$by": "axis", ...}``."""
    if isinstance(value, str) and value.startswith("$"):
        return _coordinate(where, value[1:], point)
    if isinstance(value, dict) and "$by" in value:
        return _fill(where, _case(where, value, _coordinate(where, value["$by"], point)), point)
    if isinstance(value, dict) and FROM_CONFIG in value:
        return _named_config(where, {key: _fill(where, value[key], point) for key in value})
    if isinstance(value, dict):
        return {name: _fill(where, item, point) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_fill(where, item, point) for item in value)
    return value


def _named_config(where: str, value: dict[str, Any]) -> dict[str, Any]:
    if len(value) > 1:
        also = sorted(str(key) for key in value if key != FROM_CONFIG)
        raise UsageError(f"{where}: {FROM_CONFIG} stands alone, not with {', '.join(also)}")
    check_kind(f"{where}: {FROM_CONFIG}", value[FROM_CONFIG], str)
    return value


def _case(where: str, choice: dict[str, Any], key: Any) -> Any:
    if isinstance(key, dict | list | tuple) or key not in choice:
        valid = [str(case) for case in choice if case != "$by"]
        raise UsageError(f"{where}: " + one_of(f"case of {choice['$by']}", key, valid))
    return choice[key]


def _coordinate(where: str, axis: Any, point: dict[str, Any]) -> Any:
    if not isinstance(axis, str) or axis not in point:
        raise UsageError(f"{where}: " + one_of("axis", axis, sorted(point)))
    return point[axis]
