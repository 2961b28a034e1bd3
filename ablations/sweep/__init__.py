"""From a grid to records: plan the trials, launch them, keep what they leave on disk.

Nothing here imports torch, mmdet, pandas or wandb, so planning answers at once.
"""
