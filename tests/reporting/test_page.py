"""What the report's page holds, without a browser."""

import json
import re
import time
import webbrowser
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ablations.analysis.comparisons import against_every_baseline
from ablations.analysis.focal_loss import focal_loss
from ablations.analysis.image_bootstrap import Resamples
from ablations.analysis.loss_cdf import (
    LogitSample,
    LossCDF,
    loss_cdf,
    merged_bins,
    negative_share,
)
from ablations.analysis.seeds import seed_interval
from ablations.analysis.study import load_study
from ablations.commands import report as command
from ablations.reporting.page import library
from ablations.reporting.page.differences import MOST_BASELINES
from ablations.reporting.page.grid import MOST_CELLS, MOST_TRIALS
from ablations.reporting.page.models import MOST_MODELS
from ablations.reporting.page.write import (
    PAGE,
    code_spans,
    content_security_policy,
    embedded_json,
    write_page,
)
from ablations.reporting.report import write_report
from ablations.store.logit_histogram import cumulative_share
from tests.helpers.fabricated import GRID, Plan, fabricate, logit_counts

HOSTILE = "</script><img src=x onerror=alert(1)><!--"


class Elements(HTMLParser):
    """Every start tag with its attributes, and the text of the element of data."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.data = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        _, attributes = self.tags[-1] if self.tags else ("", {})
        if attributes.get("id") == "data":
            self.data += data


def page_of(work_dir: Path, baseline: str | None = None) -> tuple[str, dict]:
    path = write_page(load_study([work_dir], baseline), work_dir.parent / f"{work_dir.name}.html")
    text = path.read_text(encoding="utf-8")
    return text, json.loads(Elements(text).data)


def test_it_is_one_file_that_names_no_other(tmp_path: Path) -> None:
    text, _ = page_of(fabricate(tmp_path / "digits", Plan(images=12)))
    for tag, attributes in Elements(text).tags:
        assert tag not in ("link", "img", "iframe", "object", "base", "form")
        assert "src" not in attributes
        assert not (attributes.get("href") or "#").lstrip("#").startswith(("http", "/", "."))
        assert not [name for name in attributes if name.startswith("on")]
        assert "style" not in attributes
    policy = next(a["content"] for t, a in Elements(text).tags if "http-equiv" in a)
    assert policy is not None and policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy


def test_sixty_four_trials_take_six_megabytes_at_most(tmp_path: Path) -> None:
    plan = Plan(seeds=(0, 1, 2, 3), images=12)
    work_dir = fabricate(tmp_path / "digits", plan)
    study = load_study([work_dir])
    library.script()  # bundled once a machine
    page_of(work_dir)  # resampled once a sweep, by the report
    start = time.process_time()
    path = write_page(study, tmp_path / PAGE)
    assert time.process_time() - start < 3
    assert path.stat().st_size < 6e6


def test_a_hostile_text_ends_no_element(tmp_path: Path) -> None:
    points = [{"loss": "CE"}, {"loss": HOSTILE}]
    plan = Plan(points=points, grid={"title": HOSTILE, "note": HOSTILE})
    clean, _ = page_of(fabricate(tmp_path / "clean", Plan(points=[{"loss": "CE"}, {"loss": "x"}])))
    text, data = page_of(fabricate(tmp_path / "hostile", plan))
    names = [
        [tag for tag, _ in Elements(t).tags if tag in ("script", "img")] for t in (clean, text)
    ]
    assert names == [["script"] * 4] * 2
    assert [cell["label"] for cell in data["cells"]] == ["CE", HOSTILE]
    assert code_spans("<b>`<i>`") == "&lt;b&gt;<code>&lt;i&gt;</code>"
    assert json.loads(embedded_json({HOSTILE: "\u2028&"})) == {HOSTILE: "\u2028&"}
    with pytest.raises(ValueError, match="not JSON compliant"):
        embedded_json(float("nan"))


def test_the_policy_knows_the_scripts_by_their_hashes() -> None:
    # printf 'alert(1)' | openssl dgst -sha256 -binary | base64
    found = content_security_policy(["alert(1)"], "")
    assert "script-src 'sha256-bhHHL3z2vDgxUt0W3dWQOrprscmda2Y5pLsLg4GF+pI='" in found


def test_intervals_are_the_reports_for_every_metric(tmp_path: Path) -> None:
    states = {("gamma=2 alpha=0.25", 1): "failed"}
    work_dir = fabricate(tmp_path / "digits", Plan(states=states))
    _, data = page_of(work_dir)
    write_report([work_dir], tmp_path / "report")
    cells = pd.read_csv(tmp_path / "report" / "tables" / "cells.csv").set_index("label")
    for cell in data["cells"]:
        row = cells.loc[cell["label"]]
        for index, metric in enumerate(data["metrics"][:6]):
            expected = [row[metric], row[f"{metric}_low"], row[f"{metric}_high"]]
            assert cell["values"][index] == pytest.approx(expected, abs=6e-4)
    index = data["metrics"].index("AP of class 3")
    own = [t for t in data["trials"] if data["cells"][t["cell"]]["label"] == "CE"]
    values = [trial["values"][index] for trial in own]
    expected = seed_interval(values)
    assert data["cells"][0]["values"][index] == pytest.approx(
        [expected.mean, expected.low, expected.high], abs=2e-3
    )


def test_every_baseline_has_the_reports_differences(tmp_path: Path) -> None:
    effects = {"gamma=2 alpha=0.25": 6.0}
    states = {("gamma=5 alpha=0.5", seed): "failed" for seed in (0, 1, 2)}
    work_dir = fabricate(tmp_path / "digits", Plan(effects=effects, states=states))
    frames = against_every_baseline(load_study([work_dir]), Resamples())
    assert set(frames) == set(load_study([work_dir]).labels) - {"gamma=5 alpha=0.5"}
    one, other = frames["CE"].set_index("label"), frames["gamma=2 alpha=0.25"].set_index("label")
    best = "gamma=2 alpha=0.25"
    assert one.loc[best, "difference"] == pytest.approx(-other.loc["CE", "difference"])
    for name in ("half_seeds", "p", "p_seeds"):
        assert one.loc[best, name] == pytest.approx(other.loc["CE", name])
    assert (one.loc[best, "verdict"], other.loc["CE", "verdict"]) == ("higher", "lower")
    assert one.loc["gamma=5 alpha=0.5", "verdict"] == "not compared"
    assert one.loc["gamma=1 alpha=0.5", "verdict"] == "cannot be told apart"
    _, data = page_of(work_dir)
    finding = data["differences"]["baselines"]["CE"]["finding"]
    assert "1 cell is higher, 13 cannot be told apart from it, 1 not compared" in finding


def test_merged_bins_show_the_same_shares() -> None:
    rng = np.random.default_rng(0)
    for positive, centre in ((True, 0.5), (False, -5.0)):
        counts = logit_counts(rng.normal(centre, 1.5, 20_000))
        logits, number = merged_bins(counts, positive)
        assert len(logits) < 400
        assert number.sum() == 20_000
        assert (np.diff(logits) < 0).all() if positive else (np.diff(logits) > 0).all()
        for gamma in (0.0, 0.5, 2.0, 5.0):
            loss = focal_loss(logits if positive else -logits, gamma)
            merged = LossCDF(*cumulative_share(number, loss))
            exact = loss_cdf(counts, positive, gamma)
            for part in (0.2, 0.01):
                assert abs(merged.hardest(part) - exact.hardest(part)) < 3e-4


def test_the_negatives_share_counts_every_window_there_was() -> None:
    # 10 positives at logit 0, 5 of 20 negatives sampled at logit 0: each loses log 2, so with
    # alpha 0.25 the negatives hold 0.75 x 20 / (0.75 x 20 + 0.25 x 10) = 6/7, whatever the gamma.
    sample = LogitSample(logit_counts(np.zeros(10)), logit_counts(np.zeros(5)), 10, 20)
    for gamma in (0.0, 2.0):
        assert negative_share(sample, gamma, 0.25) == pytest.approx(600 / 7, abs=0.1)
    assert negative_share(sample, 0.0, 1.0) == 0


def test_many_cells_and_trials_are_cut(tmp_path: Path) -> None:
    points = [{"gamma": 0.01 * i, "alpha": 0.25} for i in range(MOST_CELLS + 40)]
    points.append({"loss": "CE"})
    plan = Plan(points=points, seeds=tuple(range(5)), distinct=3)
    text, data = page_of(fabricate(tmp_path / "many", plan))
    labels = [cell["label"] for cell in data["cells"]]
    assert MOST_CELLS < len(labels) <= MOST_CELLS + 2
    assert "CE" in labels
    assert len(data["trials"]) == MOST_TRIALS
    assert data["trials_left_out"] == 5 * len(labels) - MOST_TRIALS
    assert len(data["logits"]) == len(data["curves"]) == MOST_MODELS
    assert list(data["differences"]["baselines"]) == ["CE"]
    assert str(MOST_BASELINES) in data["differences"]["note"]
    assert f"the first {len(labels)} of {len(points)} cells" in text
    assert len(text) < 6e6


def test_a_grid_of_other_axes_is_plotted_cell_by_cell(tmp_path: Path) -> None:
    points = [{"depth": depth, "scale": scale} for depth in (50, 101) for scale in (400, 800)]
    _, data = page_of(fabricate(tmp_path / "depth", Plan(points=points)))
    assert data["coordinates"] is None
    assert "heat" not in data["charts"]
    assert re.search("highest mean .* at depth=", data["findings"][0])
    _, data = page_of(fabricate(tmp_path / "gamma", Plan(points=GRID)))
    assert data["coordinates"] == {
        "x": ["0", "0.5", "1", "2", "5"],
        "lines": ["0.25", "0.5", "0.75"],
    }


def test_the_library_is_bundled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    library.script.cache_clear()
    bundled = library.script()
    assert "</script" not in bundled.lower() and "<!--" not in bundled
    monkeypatch.setattr(library.vl_convert, "javascript_bundle", None)
    library.script.cache_clear()
    assert library.script() == bundled
    library.script.cache_clear()


def test_open_shows_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda address: not opened.append(address))
    work_dir = fabricate(tmp_path / "digits", Plan(points=GRID[:2], files=False))
    out = tmp_path / "report"
    assert command.main([str(work_dir), "--out", str(out)]) == 0
    assert opened == []
    assert str(out / PAGE) in capsys.readouterr().out
    assert command.main([str(work_dir), "--out", str(out), "--open"]) == 0
    assert opened == [(out / PAGE).as_uri()]
