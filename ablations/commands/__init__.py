"""The commands: ``ablate sweep`` and the others, which are also the scripts in ``runners/``.

Only this package may import both planning and training, analysis or reporting.
"""
