"""The page's plots as Vega-Lite specifications; their rows are filled in by ``page.js``."""

import json
from typing import Any

from ablations.reporting.figures.style import COLOURS, HEAT
from ablations.reporting.page.vega import (
    AP,
    DASHES,
    FEW,
    HEIGHT,
    INK,
    SHAPES,
    STEP,
    UNIT,
    Spec,
    interval,
    like,
    quantity,
    series_of,
    spec,
    tooltip_of,
)


def chart_specs(coordinates: dict[str, Any] | None, cells: int) -> dict[str, Spec]:
    """Name -> specification.

    Args:
        coordinates: those of ``grid.grid_data``; without them AP is plotted cell by cell and there
            is no heat map.
        cells: the number of cells, which makes plots with a row for each as high as they need.
    """
    specs = {
        "differences": _differences(STEP * max(cells - 1, 1)),
        "loss": _loss(),
        "slope": _slope(),
        "positives": _cdf("positives"),
        "negatives": _cdf("negatives"),
        "training": _training(),
        "share": _share(),
    }
    if coordinates is None:
        return {"metric": _metric_by_cell(STEP * cells)} | specs
    return {
        "metric": _metric_by_gamma(coordinates),
        "heat": _heat_map(coordinates),
    } | specs


def _metric_by_gamma(coordinates: dict[str, Any]) -> Spec:
    names = json.dumps(coordinates["x"])
    axis = {"values": list(range(len(coordinates["x"]))), "labelExpr": f"{names}[datum.value]"}
    limits = [-0.5, len(coordinates["x"]) - 0.5]
    x = quantity("at", "γ (not to scale)", axis=axis | {"grid": False}, scale={"domain": limits})
    # Shapes alone: the lines' dashes would run around them.
    series = series_of("line", "α", coordinates["lines"]) | {"legend": {"symbolStrokeWidth": 0}}
    y = quantity("mean", AP, scale={"zero": False})
    tooltip = tooltip_of("cell", "mean", "interval", "seeds")
    band = {"name": "baseline"}
    return spec(
        HEIGHT + 60,
        [
            {
                "data": band,
                "mark": {"type": "rect", "opacity": 0.14, "color": INK},
                "encoding": interval("y", "low", "high", scale={"zero": False}),
            },
            {
                "data": band,
                "mark": {"type": "rule", "opacity": 0.8},
                "encoding": {"y": y, "tooltip": tooltip},
            },
            {
                "mark": {"type": "line"},
                "encoding": {
                    "x": x,
                    "y": y,
                    "color": series,
                    "strokeDash": like(series, DASHES),
                },
            },
            {
                "mark": {"type": "rule", "strokeWidth": 1.5},
                "encoding": {"x": x, "color": series} | interval("y", "low", "high"),
            },
            {
                "data": {"name": "seeds"},
                "mark": {"type": "point", "size": 22, "opacity": 0.75},
                "encoding": {
                    "x": x,
                    "y": y | {"field": "value"},
                    "color": series,
                    "tooltip": tooltip_of("cell", "seed", "value"),
                },
            },
            {
                "mark": {"type": "point", "filled": True, "size": 75, "cursor": "pointer"},
                "encoding": {
                    "x": x,
                    "y": y,
                    "color": series,
                    "shape": like(series, SHAPES),
                    "tooltip": tooltip,
                },
            },
        ],
    )


def _metric_by_cell(height: int) -> Spec:
    y: Spec = {"field": "cell", "type": "nominal", "sort": None, "title": None}
    x = quantity("mean", AP, scale={"zero": False})
    tooltip = tooltip_of("cell", "mean", "interval", "seeds")
    return spec(
        height,
        [
            {
                "mark": {"type": "rule", "strokeWidth": 1.5, "color": COLOURS[0]},
                "encoding": {"y": y} | interval("x", "low", "high", scale={"zero": False}),
            },
            {
                "data": {"name": "seeds"},
                "mark": {"type": "point", "size": 22, "opacity": 0.75, "color": COLOURS[1]},
                "encoding": {
                    "y": y,
                    "x": x | {"field": "value"},
                    "tooltip": tooltip_of("cell", "seed", "value"),
                },
            },
            {
                "mark": {"type": "point", "filled": True, "size": 75, "cursor": "pointer"},
                "encoding": {"y": y, "x": x, "tooltip": tooltip, "color": {"value": COLOURS[0]}},
            },
        ],
    )


def _heat_map(coordinates: dict[str, Any]) -> Spec:
    x: Spec = {"field": "line", "type": "nominal", "sort": coordinates["lines"], "title": "α"}
    y: Spec = {"field": "x", "type": "nominal", "sort": coordinates["x"], "title": "γ"}
    x["axis"] = {"labelAngle": 0}
    tooltip = tooltip_of("cell", "mean", "interval", "seeds", "problems")
    known, unknown = "isValid(datum.mean)", "!isValid(datum.mean)"
    dark = "datum.mean < (datum.lowest + datum.highest) / 2"
    return spec(
        46 * len(coordinates["x"]),
        [
            {
                "transform": [{"filter": known}],
                "mark": {"type": "rect", "cursor": "pointer"},
                "encoding": {
                    "color": quantity(
                        "mean", AP, scale={"scheme": HEAT, "zero": False}, legend=None
                    ),
                    "tooltip": tooltip,
                },
            },
            {
                "transform": [{"filter": unknown}],
                "mark": {
                    "type": "rect",
                    "fill": "transparent",
                    "stroke": INK,
                    "strokeDash": [3, 3],
                    "cursor": "pointer",
                },
                "encoding": {"tooltip": tooltip},
            },
            {
                "transform": [
                    {"filter": known},
                    {
                        "joinaggregate": [
                            {"op": "min", "field": "mean", "as": "lowest"},
                            {"op": "max", "field": "mean", "as": "highest"},
                        ]
                    },
                ],
                "encoding": {
                    "color": {"value": "black", "condition": {"test": dark, "value": "white"}},
                    "tooltip": tooltip,
                },
                "layer": [
                    {
                        "mark": {"type": "text", "dy": dy, "cursor": "pointer"},
                        "encoding": {"text": {"field": field}},
                    }
                    for field, dy in (("text", -7), ("half", 8))
                ],
            },
            {
                "transform": [{"filter": unknown}],
                "mark": {"type": "text", "limit": 110},
                "encoding": {"text": {"field": "text"}, "tooltip": tooltip},
            },
        ],
        encoding={"x": x, "y": y},
    )


def _differences(height: int) -> Spec:
    y: Spec = {"field": "cell", "type": "nominal", "sort": None, "title": None}
    x = quantity("difference", "AP minus the baseline's")
    tooltip = tooltip_of(
        "cell", "difference", "over_seeds", "over_seeds_and_images", "p", "verdict"
    )
    bars = {"over seeds and images": COLOURS[1], "over seeds": COLOURS[0]}
    legend: Spec = {
        "type": "nominal",
        "title": "95 % interval",
        "scale": {"domain": list(bars), "range": list(bars.values())},
        "legend": FEW,
    }
    return spec(
        height,
        [
            {
                "mark": {"type": "rule", "opacity": 0.6, "aria": False},  # zero, an axis' line
                "encoding": {"x": {"datum": 0}},
            },
            *(
                {
                    "mark": {"type": "rule", "strokeWidth": width},
                    "encoding": {"y": y, "color": legend | {"datum": name}}
                    | interval("x", f"low_{field}", f"high_{field}"),
                }
                for name, field, width in (
                    ("over seeds and images", "total", 1.5),
                    ("over seeds", "seeds", 5),
                )
            ),
            {
                "mark": {"type": "point", "filled": True, "size": 50, "cursor": "pointer"},
                "encoding": {"y": y, "x": x, "tooltip": tooltip, "color": {"value": INK}},
            },
        ],
    )


def _curves(x: Spec, y: Spec, title: str, **more: Any) -> Spec:
    """Thin reference lines from ``references`` and thick ones from ``rows``, by ``curve``."""
    series = series_of("curve", title)
    both = {"x": x, "y": y, "color": series, "tooltip": tooltip_of("curve", x["field"], y["field"])}
    return spec(
        HEIGHT,
        [
            {
                "data": {"name": "references"},
                "mark": {"type": "line", "strokeWidth": 1.2, "clip": True},
                "encoding": both | {"strokeDash": like(series, DASHES)},
            },
            {
                "mark": {"type": "line", "strokeWidth": 3.5, "clip": True, "color": INK},
                "encoding": {
                    "x": x,
                    "y": y,
                    "detail": {"field": "curve"},
                    "strokeDash": {
                        "condition": {"test": "datum.kind === 'negatives'", "value": [5, 4]},
                        "value": [1, 0],
                    },
                    "tooltip": both["tooltip"],
                },
            },
        ],
        **more,
    )


def _loss() -> Spec:
    return _curves(
        quantity("p", "probability of the true class, pₜ", **UNIT),
        quantity("loss", "loss (nats)", scale={"domain": [0, 5]}),
        "without α",
    )


def _slope() -> Spec:
    return _curves(
        quantity("x", "logit of the true class, xₜ", scale={"domain": [-5, 5]}),
        quantity("slope", "derivative of the loss", scale={"zero": False}),
        "without α",
    )


def _cdf(kind: str) -> Spec:
    return _curves(
        quantity("fraction", f"fraction of the {kind}, easiest first", **UNIT),
        quantity("share", "cumulative share of the loss", **UNIT),
        kind,
    )


def _training() -> Spec:
    series = series_of("cell", "cell") | {"legend": FEW}
    kind: Spec = {
        "field": "part",
        "type": "ordinal",
        "title": "loss",
        "scale": {"domain": ["boxes", "classification"], "range": [0.9, 2.2]},
        "legend": FEW,
    }
    return spec(
        HEIGHT,
        [
            {
                "mark": {"type": "line"},
                "encoding": {
                    "x": quantity("iteration", "iteration"),
                    "y": quantity("loss", "loss (nats a positive anchor)", scale={"type": "log"}),
                    "color": series,
                    "strokeDash": like(series, DASHES),
                    "strokeWidth": kind,
                    "detail": [{"field": "seed"}, {"field": "part"}],
                    "tooltip": tooltip_of("cell", "seed", "part", "iteration", "loss"),
                },
            }
        ],
    )


def _share() -> Spec:
    series = series_of("cell", "cell") | {"legend": FEW}
    return spec(
        HEIGHT,
        [
            {
                "mark": {"type": "line", "strokeWidth": 1.6},
                "encoding": {
                    "x": quantity("iteration", "iteration"),
                    "y": quantity(
                        "negatives",
                        "negatives' share of the loss (percent)",
                        scale={"domain": [0, 100]},
                    ),
                    "color": series,
                    "strokeDash": like(series, DASHES),
                    "detail": {"field": "seed"},
                    "tooltip": tooltip_of("cell", "seed", "iteration", "negatives"),
                },
            }
        ],
    )
