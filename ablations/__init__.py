"""Loss ablations for one-stage detectors: grids of losses in, tables with error bars out.

Importing this package is cheap: it pulls in neither torch nor mmdet.
"""

__version__ = "0.1.0"
