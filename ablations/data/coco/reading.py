"""An annotation file's bytes as lists of images, annotations and categories."""

import contextlib
import gc
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ablations.data.coco.findings import Findings, RefusedError

PARTS = ("images", "annotations", "categories")
_POLYGONS = re.compile(rb'"segmentation"\s*:\s*\[[\[\]\d\s.,eE+-]*\](?=\s*(?:\}|,\s*"))', re.ASCII)
_LONG = 300  # bytes of an annotation, more than which are polygons


def read(file: Path, findings: Findings, masks: bool = False) -> tuple[dict[str, Any], str]:
    """The file's content and the SHA-256 of its bytes.

    Args:
        file: JSON in UTF-8, with or without a byte order mark, UTF-16 or UTF-32.
        findings: gets what was unusual.
        masks: keep the polygons. They are most of a file, so they are cut out of the text before it
            is parsed where nobody needs them.

    Raises:
        RefusedError: there is no such file, or it is not COCO's JSON.
    """
    try:
        raw = file.read_bytes()
    except OSError as error:
        raise RefusedError(f"{file} does not exist or cannot be read ({error.strerror})") from None
    digest = hashlib.sha256(raw).hexdigest()
    if not raw or raw.isspace():
        raise RefusedError(f"{file} is empty: export it again")
    if raw[:2] in (b"\x1f\x8b", b"PK"):
        raise RefusedError(f"{file} is compressed: unpack it")
    encoding = json.detect_encoding(raw)
    if encoding != "utf-8":
        known = "UTF-8 with a byte order mark" if encoding == "utf-8-sig" else encoding.upper()
        findings.mended(f"the file is {known}; the checked one is plain UTF-8")
    content = None if masks or encoding != "utf-8" else _parsed_without_polygons(raw)
    if content is None:
        content = _parsed(file, raw, encoding)
    del raw
    if not isinstance(content, dict):
        raise RefusedError(f"{file} is not in COCO format: it has no {', '.join(PARTS)!r}")
    if missing := [part for part in PARTS if part not in content]:
        raise RefusedError(f"{file} is not in COCO format: it has no {', '.join(missing)!r}")
    for part in PARTS:
        _must_be_a_list_of_objects(file, part, content[part])
    return content, digest


def _parsed_without_polygons(raw: bytes) -> Any:
    """The content, or ``None`` where that is no JSON: ``_parsed`` says what is wrong with it."""
    try:
        text = _without_polygons(raw).decode()
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _parsed(file: Path, raw: bytes, encoding: str) -> Any:
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as error:
        raise RefusedError(
            f"{file} is not {encoding.upper()} text (byte {error.start}): save it as UTF-8"
        ) from None
    del raw
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        if error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated"):
            raise RefusedError(
                f"{file} is not JSON to its end ({place}): it was cut off; copy or export it again"
            ) from None
        raise RefusedError(f"{file} is not JSON ({error.msg}: {place}): export it again") from None
    except RecursionError:
        raise RefusedError(f"{file} is not COCO annotations: it is nested too deeply") from None


@contextlib.contextmanager
def without_collections() -> Iterator[None]:
    """No garbage collection: it would look at millions of new objects again and again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _without_polygons(raw: bytes) -> bytes:
    """The same JSON with every list of polygons empty.

    Run-length codes, which are objects, are left: they are few. A list of polygons is numbers and
    brackets, and ends where its object or the next key follows.
    """
    keys = raw.count(b'"segmentation"')
    if not keys or len(raw) / keys < _LONG:
        return raw
    return _POLYGONS.sub(b'"segmentation":[]', raw)


def _must_be_a_list_of_objects(file: Path, part: str, entries: Any) -> None:
    if not isinstance(entries, list):
        raise RefusedError(
            f"{file} is not in COCO format: {part} is a {type(entries).__name__}, not a list"
        )
    if set(map(type, entries)) <= {dict}:
        return
    wrong = [index for index, entry in enumerate(entries) if not isinstance(entry, dict)]
    kind = type(entries[wrong[0]]).__name__
    raise RefusedError(
        f"{file} is not in COCO format: {len(wrong)} of {len(entries)} entries of {part} are no "
        f"objects (first: {part}[{wrong[0]}], a {kind})"
    )
