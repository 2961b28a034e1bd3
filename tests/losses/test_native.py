"""The compiled path gives the same numbers with any number of threads, and without a compiler."""

import pytest
import torch

from ablations.losses import native
from tests.helpers import losses as L
from tests.helpers.batches import Batch, make_batch


@pytest.fixture
def fresh_library():
    """Forget the loaded library before and after."""
    native.library.cache_clear()
    yield
    native.library.cache_clear()


def value_and_gradient(batch, **options):
    loss = L.focal_loss(*batch, **options)
    return loss.detach(), torch.autograd.grad(loss.sum(), batch.logits)[0]


@pytest.mark.usefixtures("fresh_library")
@pytest.mark.parametrize("environment", [{"ABLATIONS_NATIVE": "0"}, {"CC": "/no/such/compiler"}])
def test_without_a_compiler_the_loss_is_the_same(monkeypatch, environment):
    batch = make_batch(dtype=torch.float32)
    expected = value_and_gradient(batch)
    native.library.cache_clear()
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert native.library() is None
    torch.testing.assert_close(value_and_gradient(batch), expected)


@pytest.mark.usefixtures("fresh_library")
def test_a_failed_compilation_leaves_nothing_behind(monkeypatch, tmp_path):
    broken = tmp_path / "broken.c"
    broken.write_text("not C")
    monkeypatch.setattr(native, "SOURCE", broken)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert native.library() is None
    assert [*(tmp_path / "cache").rglob("*.*")] == []


needs_library = pytest.mark.skipif(native.library() is None, reason="no C compiler here")


@needs_library
def test_the_library_is_built_once(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first = native.build()
    built_at = first.stat().st_mtime_ns
    assert native.build() == first and first.stat().st_mtime_ns == built_at
    assert [*first.parent.iterdir()] == [first]


@needs_library
@pytest.mark.parametrize("classes", [1, 3, 80, 1024, 1500])
def test_blocks_of_any_width(monkeypatch, classes):
    batch = make_batch(count=77, classes=classes, dtype=torch.float32)
    for options in ({}, {"reduction": "none"}):
        compiled = value_and_gradient(batch, **options)
        with monkeypatch.context() as without:
            without.setattr(native, "library", lambda: None)
            torch.testing.assert_close(compiled, value_and_gradient(batch, **options))


@needs_library
def test_threads_share_the_rows(monkeypatch):
    batch = make_batch(dtype=torch.float32)
    expected = value_and_gradient(batch, reduction="sum")
    monkeypatch.setattr(native, "ELEMENTS_A_THREAD", 100)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    value, gradient = value_and_gradient(batch, reduction="sum")
    torch.testing.assert_close(value, expected[0])
    assert torch.equal(gradient, expected[1])


@needs_library
def test_every_float_is_right_to_a_few_units_in_the_last_place():
    magnitudes = torch.cat([torch.logspace(-12, 4, 4001), torch.linspace(0, 30, 4001)])
    logits = torch.cat([-magnitudes, magnitudes])[:, None]
    target = torch.ones(len(logits), dtype=torch.long)
    for gamma in (0, 0.5, 2, 0.3, 7.7):
        options = {"gamma": gamma, "alpha": None, "reduction": "none"}
        single, double = (
            Batch(logits.to(dtype).requires_grad_(), target, None)
            for dtype in (torch.float32, torch.float64)
        )
        value, gradient = value_and_gradient(single, **options)
        exact_value, exact_gradient = value_and_gradient(double, **options)
        normal = exact_value > 1e-36  # below, float32 has fewer digits or none
        # gamma |log p| rounding errors in the exponent of p^gamma, where it is no multiple of 0.5.
        rtol = 1e-6 if gamma in (0, 0.5, 2) else 1e-4
        for ours, exact in ((value, exact_value), (gradient, exact_gradient)):
            torch.testing.assert_close(ours[normal].double(), exact[normal], rtol=rtol, atol=0)
