from pathlib import Path

import numpy as np
import pytest

from ablations.analysis.loss_curve import POINTS, read_curve
from ablations.store.arrays import read_arrays
from tests.helpers.fabricated import Plan, fabricate


def test_a_damaged_missing_or_incomplete_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "some.npz"
    with pytest.raises(ValueError, match=r"some\.npz cannot be read"):
        read_arrays(path, ["a"])
    np.savez(path, a=np.arange(3))
    assert list(read_arrays(path, ["a"])["a"]) == [0, 1, 2]
    with pytest.raises(ValueError, match=r"some\.npz lacks b, c"):
        read_arrays(path, ["b", "a", "c"])
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(ValueError, match=r"some\.npz cannot be read"):
        read_arrays(path, ["a"])


def test_a_curve_is_averaged_not_sampled(tmp_path: Path) -> None:
    plan = Plan(points=[{"loss": "CE"}], seeds=(0,), iterations=1000)
    work_dir = fabricate(tmp_path / "digits", plan)
    path = next((work_dir / "trials").glob("*/curve.npz"))
    curve = read_curve(path)
    assert len(curve) <= POINTS
    with np.load(path) as stored:
        assert curve["loss"].iloc[0] == pytest.approx(stored["loss"][:7].mean())
