"""Slurm, through submitit: ``settings`` of a request, its ``queue``, the ``launcher``, and the
``task`` that runs on a node. Nothing outside this folder knows Slurm.

A submission is one job array with a task for each trial, and a small job that writes the report
when the array has ended. What was submitted is kept in ``WORK_DIR/slurm/submission-N.json``, beside
submitit's files and the jobs' output.
"""
