"""Check an override of ``--cfg-options`` against the value that it replaces."""

from collections.abc import Sequence
from typing import Any

from ablations.sweep.errors import UsageError

ABSENT = object()


def value_at(config: Any, path: str) -> Any:
    """What stands at a dotted path, or ``ABSENT``."""
    node = config
    for key in path.split("."):
        if isinstance(node, dict) and key in node:
            node = node[key]
        elif isinstance(node, list | tuple) and key.isdigit() and int(key) < len(node):
            node = node[int(key)]
        else:
            return ABSENT
    return node


def check_type(path: str, old: Any, new: Any) -> Any:
    """``new``, as it is to stand in place of ``old`` at ``path``.

    ``None`` may become anything, and anything ``None``. A whole number does for a fraction; a
    fraction for a whole number only if it is whole, and then it is converted. The items of a list
    are checked against those that it had, where these are of one type, and the keys of a dict
    against the same keys, where its ``type`` stays.

    Raises:
        UsageError: the types do not fit; one line names path, value and expected type.
    """
    if old is ABSENT or old is None or new is None:
        return new
    if isinstance(old, bool):
        return new if isinstance(new, bool) else _refuse(path, new, "True or False")
    if isinstance(old, int):
        return _whole(path, new)
    if isinstance(old, float):
        number = isinstance(new, int | float) and not isinstance(new, bool)
        return new if number else _refuse(path, new, "a number")
    if isinstance(old, str):
        return new if isinstance(new, str) else _refuse(path, new, "a string")
    if isinstance(old, list | tuple):
        if not isinstance(new, list | tuple):
            return _refuse(path, new, f"a {type(old).__name__}")
        return type(old)(_items(path, old, new))
    if isinstance(old, dict):
        return _keys(path, old, new) if isinstance(new, dict) else _refuse(path, new, "a dict")
    return new


def _whole(path: str, new: Any) -> int:
    if isinstance(new, float) and new.is_integer():
        return int(new)
    if isinstance(new, int) and not isinstance(new, bool):
        return new
    return _refuse(path, new, "a whole number")


def _items(path: str, old: Sequence[Any], new: Sequence[Any]) -> list[Any]:
    known = [item for item in old if item is not None]
    kinds = {type(item) for item in known}
    if kinds == {int, float}:  # numbers
        known, kinds = [0.0], {float}
    if len(kinds) != 1 or kinds <= {dict}:
        return list(new)
    return [check_type(f"{path}.{index}", known[0], item) for index, item in enumerate(new)]


def _keys(path: str, old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    if "type" in new and new["type"] != old.get("type"):
        return new  # another thing, with keys of its own
    return {key: check_type(f"{path}.{key}", old.get(key), value) for key, value in new.items()}


def _refuse(path: str, value: Any, expected: str) -> Any:
    raise UsageError(
        f"--cfg-options {path}={value!r}: it takes {expected}, not a {type(value).__name__}"
    )
