"""The checked content on disk: whole or absent, named by its own hash."""

import contextlib
import hashlib
import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ablations.data.coco.checking import Checked

_ENCODER = json.JSONEncoder(separators=(",", ":"), check_circular=False)  # JSON has no circles
_PLAIN = {"id", "image_id", "category_id", "bbox", "area", "iscrowd"}
_BLOCK = 20_000  # entries that are formatted at a time


def file_name(digest: str) -> str:
    """The name of a checked file of a sweep."""
    return f"annotations-{digest}.json"


def keep(checked: Checked, folder: Path | None) -> str:
    """Write the checked content into ``folder`` as ``file_name(digest)``.

    A file that needed nothing is kept byte for byte, so that its hash is its source's: trials on it
    are the same trials as those of before there was a check.

    Args:
        checked: of a file that was not refused.
        folder: made if it is not there; ``None`` for the hash alone.

    Returns:
        The SHA-256 of the written bytes.

    Raises:
        ValueError: the source has changed meanwhile.
    """
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    draft = None if folder is None else folder / f".annotations.{uuid.uuid4().hex[:8]}"
    digest = hashlib.sha256()
    try:
        with contextlib.ExitStack() as stack:
            stream = stack.enter_context(draft.open("wb")) if draft is not None else None
            for part in _bytes(checked):
                digest.update(part)
                if stream is not None:
                    stream.write(part)
            if stream is not None:
                stream.flush()
                os.fsync(stream.fileno())
        if not checked.changed and digest.hexdigest() != checked.source:
            raise ValueError(f"{checked.split.file} has changed while it was checked")
        if folder is not None and draft is not None:
            draft.replace(folder / file_name(digest.hexdigest()))
    finally:
        if draft is not None:
            draft.unlink(missing_ok=True)
    return digest.hexdigest()


def _bytes(checked: Checked) -> Iterator[bytes]:
    if checked.changed:
        yield from _json(checked.content or {})
        return
    with checked.split.file.open("rb") as stream:
        while part := stream.read(1 << 20):
            yield part


def _json(content: dict[str, Any]) -> Iterator[bytes]:
    """The same as ``json.dumps``, in parts: the text of it all would take as much memory again."""
    encode = _ENCODER.encode
    before = "{"
    for key, value in content.items():
        yield f"{before}{encode(key)}:".encode()
        before = ","
        if not isinstance(value, list):
            yield encode(value).encode()
            continue
        line = _annotation if key == "annotations" else encode
        for start in range(0, len(value), _BLOCK):
            block = ",".join([line(entry) for entry in value[start : start + _BLOCK]])
            yield ("," if start else "[").encode() + block.encode()
        yield b"]" if value else b"[]"
    yield b"}"


def _annotation(entry: dict[str, Any]) -> str:
    """A checked annotation as JSON. Its numbers are finite, so Python writes them as JSON does,
    which takes two thirds of the encoder's time."""
    if entry.keys() != _PLAIN:
        return _ENCODER.encode(entry)
    return (
        f'{{"id":{entry["id"]},"image_id":{entry["image_id"]},'
        f'"category_id":{entry["category_id"]},"bbox":{entry["bbox"]},'
        f'"area":{entry["area"]},"iscrowd":{entry["iscrowd"]}}}'
    )
