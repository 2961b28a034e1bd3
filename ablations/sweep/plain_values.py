"""What grids and options may hold: values that a config file and a record can be written with."""

import math
from typing import Any

from ablations.sweep.errors import UsageError

_DEPTH = 50


def check_plain(where: str, value: Any, depth: int = 0) -> Any:
    """``value``, if it is made of texts, finite numbers, booleans, ``None``, lists and dicts.

    Raises:
        UsageError: it is not; one line says where and what.
    """
    if depth > _DEPTH:
        raise UsageError(f"{where}: a value is nested more than {_DEPTH} times")
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str | int | float | bool | None):
                raise UsageError(f"{where}: {key!r} is no key; keys are texts and numbers")
            check_plain(where, key, depth + 1)
            check_plain(where, item, depth + 1)
    elif isinstance(value, list | tuple):
        for item in value:
            check_plain(where, item, depth + 1)
    elif isinstance(value, str):
        if any(0xD800 <= ord(letter) <= 0xDFFF or letter == "\0" for letter in value):
            raise UsageError(f"{where}: {value!r} has a letter that no file can hold")
    elif isinstance(value, float) and not math.isfinite(value):
        raise UsageError(f"{where}: {value} is no finite number")
    elif not isinstance(value, int | float | None):
        raise UsageError(
            f"{where}: {str(value)[:40]!r} is a {type(value).__name__}; values are texts, numbers, "
            "True, False, None, lists and dicts"
        )
    return value


def check_kind(where: str, value: Any, *kinds: type) -> Any:
    """``value``, if it is one of some kinds.

    Raises:
        UsageError: it is not; one line says where, what, and the kinds.
    """
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        names = " or ".join(_NAMES.get(kind, kind.__name__) for kind in kinds)
        raise UsageError(f"{where} is {repr(value)[:40]}; it must be {names}")
    return value


_NAMES: dict[type, str] = {
    **{str: "a text", int: "a whole number", float: "a number", dict: "a dict", list: "a list"},
    **{tuple: "a tuple", type(None): "None"},
}
