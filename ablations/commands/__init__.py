"""The commands that people type: ``ablate sweep`` and the rest, and the scripts in ``runners/``.

They are the one place that imports both the planning and the training, analysis and reporting side.
"""
