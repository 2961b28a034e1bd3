"""The Slurm that the ``slurm`` tests share."""

import os
from collections.abc import Iterator

import pytest

from tests.helpers.slurm_cluster import SlurmCluster, missing_programs


@pytest.fixture(scope="session")
def slurm_daemons(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmCluster]:
    """A running cluster. Without Slurm the test is skipped; in CI it fails."""
    missing = missing_programs()
    if missing:
        reason = f"Slurm is not installed (no {', '.join(missing)})"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    cluster = SlurmCluster(tmp_path_factory.mktemp("slurm"))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def cluster(slurm_daemons: SlurmCluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[SlurmCluster]:
    """The cluster without jobs; this process is its login node."""
    for name, value in slurm_daemons.environment.items():
        monkeypatch.setenv(name, value)
    yield slurm_daemons
    slurm_daemons.clear()
