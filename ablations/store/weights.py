"""Pretrained weights in a plan: a file is identified by its content, without torch.

A shipped file ``digits_r18.pth`` has a note ``digits_r18.json``, which says how it was made and has
its checksum. A file that is missing or has another checksum is refused before anything starts.
Weights named by a URL or a model zoo are identified by that name.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ablations.store.files import read_json, sha256


def named_checkpoints(node: Any) -> Iterator[str]:
    """Every checkpoint that a part of a config loads."""
    if isinstance(node, dict):
        if is_pretrained(node):
            yield node["checkpoint"]
        if isinstance(node.get("load_from"), str):
            yield node["load_from"]
        for value in node.values():
            yield from named_checkpoints(value)
    elif isinstance(node, list | tuple):
        for item in node:
            yield from named_checkpoints(item)


def is_pretrained(node: dict[str, Any]) -> bool:
    """Whether this is mmengine's ``init_cfg`` that loads a checkpoint."""
    return node.get("type") == "Pretrained" and bool(node.get("checkpoint"))


def is_local(name: str) -> bool:
    """Whether a checkpoint is a file, and not a URL or a name in a model zoo."""
    return "://" not in name


def content(name: str) -> str:
    """A checkpoint in a trial's identity: the checksum of a file, or else the name.

    Raises:
        ValueError: the file is missing, or its checksum is not the one in its note.
    """
    if not is_local(name):
        return name
    path = Path(name)
    if not path.is_file():
        raise ValueError(f"the pretrained weights {name} are missing: there is no such file")
    found, expected = sha256(path), _noted(path)
    if expected not in (None, found):
        raise ValueError(
            f"the pretrained weights {name} have changed: their SHA-256 is {found[:12]}..., not "
            f"{str(expected)[:12]}... as {path.with_suffix('.json').name} says"
        )
    return f"sha256:{found}"


def described(name: str) -> str:
    """A checkpoint in words: a file's name and the beginning of its checksum."""
    if not is_local(name):
        return name
    return f"{Path(name).name}, SHA-256 {content(name).removeprefix('sha256:')[:12]}"


def _noted(path: Path) -> str | None:
    """The checksum in the note beside a file; ``None`` without a note."""
    note = path.with_suffix(".json")
    found = read_json(note)
    return found.get("sha256") if isinstance(found, dict) else None
