"""The report as one HTML file that can be explored: no network, no server.

The plots are Vega-Lite's, bundled by ``vl-convert-python`` (the package behind altair's offline
files). With all it needs it takes 0.9 MB in the file, plotly.js 4.7 MB; it draws SVG, with a
description for screen readers on every mark; a plot is data, not code; and with vega-embed's
interpreter (``ast``) it needs no ``eval``, so the page's content security policy can forbid it.

The browser computes no statistics: means, intervals, paired differences and p values are embedded.
What it does compute is the loss (``loss.js``), which is what its sliders move.
"""
