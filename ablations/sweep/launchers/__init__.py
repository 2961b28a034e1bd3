"""Where trials run: ``launcher`` is the interface, ``local`` and ``slurm`` implement it."""
