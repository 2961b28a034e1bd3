"""Fixtures of the loss tests: input, and every way to evaluate a loss."""

import pytest

from ablations.losses import chunked, fused, native
from tests.helpers.batches import Batch, make_batch


@pytest.fixture
def batch() -> Batch:
    return make_batch()


@pytest.fixture(params=["native", "chunked", "dense"])
def engine(request, monkeypatch) -> str:
    """The CPU's paths, in chunks so small that a test has many, and that of other devices."""
    if request.param == "native" and native.library() is None:
        pytest.skip("no C compiler here")
    if request.param == "chunked":
        monkeypatch.setattr(native, "library", lambda: None)
    monkeypatch.setattr(chunked, "CHUNK", 100)
    if request.param == "dense":
        monkeypatch.setattr(fused, "is_dense", lambda _: True)
    return request.param
