"""The code that a trial computes with, by name and content: the user's modules and our own parts.

Nothing is imported here: modules are found as an import would find them, and read.
"""

import ast
import functools
import hashlib
import importlib
import importlib.util
import site
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).resolve().parents[1]
PARTS = ("losses", "training")
"""Parts of the package whose code can change a result."""

_DIGITS = 16  # hexadecimal, of a SHA-256


def own_code() -> dict[str, str]:
    """Digests of the package's loss and training code: ``ablations.<part>`` -> digest."""
    return {f"{PACKAGE.name}.{part}": _folder_digest(PACKAGE / part) for part in PARTS}


def _folder_digest(folder: Path) -> str:
    """Of the sources below a folder, by their names and contents."""
    sources = sorted(path for path in folder.rglob("*") if path.suffix in (".py", ".c"))
    lines = [f"{path.relative_to(folder).as_posix()} {_digest(path)}" for path in sources]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:_DIGITS]


def _digest(path: Path) -> str:
    """The digest of a source, whichever line ends git has given it here."""
    content = path.read_bytes().replace(b"\r\n", b"\n")
    return hashlib.sha256(content).hexdigest()[:_DIGITS]


def user_code(config: dict[str, Any]) -> dict[str, str]:
    """Digests of the modules that a config's ``custom_imports`` names, without this package's own,
    and of what they import: module name -> digest.

    The named modules are always there; of what they import (wherever in the file it stands, and
    whatever that imports in turn) only what is the user's own: not the standard library, not what
    is installed as a package. A module that is imported by a computed name, and a file that is
    read, are not seen.

    Raises:
        ModuleNotFoundError: a named module is not there; the message names it.
    """
    imports = config.get("custom_imports") or {}
    names = imports.get("imports") or ()
    names = [names] if isinstance(names, str) else names
    own = tuple(name for name in names if name.partition(".")[0] != PACKAGE.name)
    if not own:
        return {}
    importlib.invalidate_caches()
    missing = [name for name in own if _find(name) is None]
    if missing and not imports.get("allow_failed_imports"):
        raise ModuleNotFoundError(f"no module named {missing[0]!r}")
    return dict(sorted(_with_imports(own)))


def _with_imports(names: Sequence[str]) -> Iterator[tuple[str, str]]:
    seen: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        spec = _find(name) if name not in seen else None
        seen.add(name)
        origin = _origin(spec)
        if spec is None or origin is None or not (name in names or _is_users(origin)):
            continue
        yield name, _digest(origin)
        if origin.suffix == ".py" and _is_users(origin):
            package = name if spec.submodule_search_locations is not None else spec.parent or ""
            waiting += _imported(origin, package)
        if parent := name.rpartition(".")[0]:  # an import runs it first
            waiting.append(parent)


def _find(name: str) -> ModuleSpec | None:
    """Where an import would find a module, the current folder last; parents are not imported."""
    top, *rest = name.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except (ValueError, ImportError):
        spec = None
    if spec is None:
        spec = PathFinder.find_spec(top, [str(Path.cwd())])
    for depth, _ in enumerate(rest, 2):
        if spec is None or spec.submodule_search_locations is None:
            return None
        within = list(spec.submodule_search_locations)
        spec = PathFinder.find_spec(".".join(name.split(".")[:depth]), within)
    return spec


def _origin(spec: ModuleSpec | None) -> Path | None:
    """The file of a module; ``None`` for one that has none (built in, or a folder alone)."""
    if spec is None or not spec.has_location or spec.origin is None:
        return None
    return Path(spec.origin).resolve()


def _is_users(path: Path) -> bool:
    return not any(path.is_relative_to(root) for root in _installed())


@functools.cache
def _installed() -> tuple[Path, ...]:
    """Where the standard library, installed packages and this package lie."""
    paths = sysconfig.get_paths()
    roots = [paths[key] for key in ("stdlib", "platstdlib", "purelib", "platlib")]
    roots += [*site.getsitepackages(), site.getusersitepackages()]
    return (*(Path(root).resolve() for root in roots), PACKAGE)


def _imported(path: Path, package: str) -> Iterator[str]:
    """Names that a source imports, as modules; some of them are only names in a module."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):  # its import will say so
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *([base] if base else [])])
            names = [base, *(f"{base}.{alias.name}" for alias in node.names)]
        else:
            continue
        known = sys.stdlib_module_names
        yield from (name for name in names if name and name.split(".")[0] not in known)
