"""Slurm, through submitit.

``settings`` are those of a request, ``launcher`` submits it, ``queue`` asks Slurm about it, and
``task`` runs on the nodes. A submission is one job array with a task for each trial, and a small
job that writes the report when the array has ended. ``WORK_DIR/slurm/submission-N.json`` describes
it; submitit's files and the jobs' output are beside that file.
"""
