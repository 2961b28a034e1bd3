"""What a conclusion costs, from a table of trials whose noise is known."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ablations.analysis.comparisons import paired_sd
from benchmarks import cost_per_conclusion
from benchmarks.cost_per_conclusion import World, page, true_seeds


def test_the_worlds_paired_sd_is_the_analysis_own() -> None:
    ap = np.random.default_rng(1).normal(50, 1, (6, 4)) + np.array([3.0, -2.0, 0.0, 1.0])
    assert World(ap).paired_sd == pytest.approx(float(paired_sd(ap)))


def test_the_page_gives_the_paired_sd_the_trials_and_their_hours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cost_per_conclusion, "REPETITIONS", 200)
    monkeypatch.setattr(cost_per_conclusion, "ESTIMATES", 20)
    rng = np.random.default_rng(0)
    rows = [
        {"label": f"cell {i}", "seed": s, "AP": 50 + rng.normal(0, 0.5), "device_s": 36.0}
        for i in range(6)
        for s in range(4)
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "trials.csv", index=False)
    table = pd.DataFrame(rows).pivot_table(index="label", columns="seed", values="AP").to_numpy()
    world = World(table)
    seeds = true_seeds(world, True, np.random.default_rng(0))
    expected = (
        f"**Paired standard deviation over all 6 cells {world.paired_sd:.2f} AP; 1 AP between two "
        f"cells takes {2 * seeds:.0f} trials, {2 * seeds * 0.01:.2f} device-hours.**"
    )
    assert expected in page(tmp_path / "trials.csv")
