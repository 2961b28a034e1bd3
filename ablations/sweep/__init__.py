"""Plan the trials of a grid and launch them.

Nothing here imports torch, mmdet, pandas or wandb, so that planning takes two seconds.
"""
