"""Loss ablations for one-stage detectors: grids of losses in, tables with error bars out.

    import ablations

    trials = ablations.load_trials(["work_dirs/gamma_alpha"])  # a pandas frame, a row a trial
    trials.query("state == 'finished'").groupby("label")["AP"].agg(["mean", "std"])

Importing this package is cheap: it pulls in neither torch nor mmdet nor pandas.
"""

from typing import Any

__version__ = "0.1.0"

__all__ = ["load_trials"]


def __getattr__(name: str) -> Any:
    if name == "load_trials":
        from ablations.analysis.frames import load_trials

        return load_trials
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
