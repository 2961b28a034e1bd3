"""What the page's plots share: their style and the parts of a Vega-Lite specification.

Text and lines take the page's own colour (``currentColor``), so that one plot serves the light and
the dark page. Lines differ in their dashes and points in their shapes as well as in colour.
"""

from typing import Any

from ablations.reporting.figures.style import COLOURS

Spec = dict[str, Any]

INK = "currentColor"
PALETTE = [INK if colour == "#000000" else colour for colour in COLOURS]
DASHES = [[1, 0], [6, 3], [6, 2, 1, 2], [1, 2], [8, 2, 1, 2, 1, 2], [3, 3], [10, 3]]
SHAPES = ["circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "triangle-right"]
HEIGHT = 260  # pixels
STEP = 22  # of a row
UNIT: Spec = {"scale": {"domain": [0, 1]}, "axis": {"tickCount": 5, "labelFlush": False}}
FEW: Spec = {"columns": {"expr": "width < 420 ? 1 : 2"}}  # for series with long names
AP = "box AP (percent)"

CONFIG: Spec = {
    "background": None,
    "font": "system-ui, sans-serif",
    "view": {"stroke": None},
    "axis": {
        **{f"{part}Color": INK for part in ("label", "title", "tick", "domain", "grid")},
        "gridOpacity": 0.15,
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "labelLimit": 190,
    },
    "legend": {
        "labelColor": INK,
        "titleColor": INK,
        "orient": "top",
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "symbolStrokeWidth": 2,
        "labelLimit": 260,
        "columns": {"expr": "width < 420 ? 2 : 6"},
    },
    "text": {"color": INK, "fontSize": 12},
    "line": {"strokeWidth": 2},
    "rule": {"color": INK},
}


def spec(height: int, layers: list[Spec], **more: Any) -> Spec:
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "config": CONFIG,
        "width": "container",
        "height": height,
        "autosize": {"type": "fit-x", "contains": "padding"},
        "data": {"name": "rows"},
        "layer": layers,
        **more,
    }


def quantity(field: str, title: str | None, **more: Any) -> Spec:
    return {"field": field, "type": "quantitative", "title": title, **more}


def tooltip_of(*fields: str) -> list[Spec]:
    return [{"field": field, "title": field.replace("_", " ")} for field in fields]


def series_of(field: str, title: str, names: list[str] | None = None) -> Spec:
    """Colour of a series; with ``names`` in this order, else in order of appearance."""
    domain = {} if names is None else {"domain": names}
    sort: Spec = {"sort": None} if names is None else {}
    scale = {"range": PALETTE, **domain}
    return {"field": field, "type": "nominal", "title": title, "scale": scale, **sort}


def like(series: Spec, values: list[Any]) -> Spec:
    """The same series as dashes or shapes."""
    return series | {"scale": series["scale"] | {"range": values}}


def interval(x: str, low: str, high: str, **more: Any) -> Spec:
    """Ends of a bar along one axis: encodings by channel."""
    other = {"x": "x2", "y": "y2"}[x]
    return {x: {"field": low, "type": "quantitative", **more}, other: {"field": high}}
