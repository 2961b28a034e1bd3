"""Small pieces of the real configs, for tests of what runs inside a trial."""

import pytest
import torch


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def scope():
    """mmdet's default scope for the duration of a test."""
    from mmengine.registry import DefaultScope

    import ablations.training  # noqa: F401

    with DefaultScope.overwrite_default_scope("mmdet"):
        yield
