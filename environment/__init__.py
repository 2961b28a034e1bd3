"""What makes the Python environment: the steps of `make setup`, the matrix, the offline bundle.

Nothing here imports the project or anything outside the standard library: it runs before there is
an environment.
"""
