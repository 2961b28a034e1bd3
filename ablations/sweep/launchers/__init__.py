"""Launchers run trials: ``launcher`` is the interface, ``local`` and ``slurm`` implement it."""
