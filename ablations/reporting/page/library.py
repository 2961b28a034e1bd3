"""The plotting library as one script: Vega, Vega-Lite and vega-embed, from ``vl-convert-python``.

Bundling them takes about two seconds of processor time, so the script is kept in the user's cache
under a name that changes with the versions.
"""

import contextlib
import os
from functools import cache
from importlib.metadata import version
from pathlib import Path

import vl_convert

from ablations.store.files import write_text

VEGA_LITE = "6.4"
SNIPPET = "window.vegaEmbed = vegaEmbed;"
OWN_SCOPE = "(() => {{\n{}\n}})();"  # or its short names would clash with the page's


@cache
def script() -> str:
    """JavaScript that defines ``vegaEmbed``; the same bytes for the same versions."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    name = f"vega-lite-{VEGA_LITE}-vl-convert-{version('vl-convert-python')}.js"
    kept = Path(base) / "loss-ablations" / name
    with contextlib.suppress(OSError):
        return OWN_SCOPE.format(kept.read_text(encoding="utf-8"))
    bundle = vl_convert.javascript_bundle(SNIPPET, vl_version=VEGA_LITE)
    with contextlib.suppress(OSError):  # no place to write: bundle again next time
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_text(kept, bundle)
    return OWN_SCOPE.format(bundle)
