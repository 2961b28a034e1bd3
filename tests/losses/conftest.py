"""What the loss tests share: input, and every way a loss is evaluated."""

import pytest

from ablations.losses import fused

from .batches import Batch, make_batch


@pytest.fixture
def batch() -> Batch:
    return make_batch()


@pytest.fixture(params=["chunked", "dense"])
def engine(request, monkeypatch) -> str:
    """The CPU's path, in chunks so small that a test has many, and that of other devices."""
    monkeypatch.setattr(fused, "CHUNK", 100)
    if request.param == "dense":
        monkeypatch.setattr(fused, "is_dense", lambda _: True)
    return request.param
