"""The report's page in a real browser: what it shows, does, and keeps from doing."""

import csv
import io
import json
import os
import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imsave

from ablations.analysis.focal_loss import focal_loss, focal_loss_derivative
from ablations.analysis.loss_cdf import loss_cdf, negative_share, read_logits
from ablations.reporting.page.write import PAGE
from ablations.reporting.report import write_report
from ablations.store.record import PROBABILITIES
from tests.helpers.fabricated import GRID, Plan, fabricate

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

HOSTILE = "<img src=x onerror=alert(1)></script><script>alert(2)</script>"
EFFECTS = {"gamma=2 alpha=0.25": 6.0, "gamma=0 alpha=0.75": 3.0}
STATES = {
    ("gamma=5 alpha=0.5", 1): "failed",
    **{("gamma=0 alpha=0.25", seed): "diverged" for seed in (0, 1, 2)},
}


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sweeps")
    images = folder / "val"
    images.mkdir()
    pixels = np.random.default_rng(0).integers(60, 180, (12, 64, 64, 3)).astype(np.uint8)
    for index, image in enumerate(pixels):
        imsave(images / f"{index}.png", np.kron(image, np.ones((10, 10, 1), np.uint8)))
    points = [*GRID, {"loss": HOSTILE}]
    plan = Plan(points=points, effects=EFFECTS, states=STATES, images=12, images_dir=images)
    return fabricate(folder / "digits", plan)


@pytest.fixture(scope="module")
def report(sweep: Path) -> Path:
    return write_report([sweep], sweep.parent / "report").parent


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A browser; without Chromium a skip, which CI does not accept."""
    helper = pytest.importorskip("tests.helpers.browser", reason="needs selenium")
    if not helper.installed():
        if os.environ.get("CI") == "true":
            pytest.fail("CI has no Chromium with its driver")
        pytest.skip("needs chromium and chromium-driver")
    with helper.chromium(tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture
def page(browser: Any, report: Path) -> Any:
    browser.open(report / PAGE)
    return browser


def test_it_opens_from_disk_without_an_error_or_a_request(page: Any, report: Path) -> None:
    assert page.messages() == []
    assert page.requests() == {(report / PAGE).as_uri()}
    drawn = page.run("return document.querySelectorAll('.chart svg').length")
    assert drawn == 9  # all plots


def test_gamma_moves_the_loss_shares_to_the_reports(page: Any, report: Path) -> None:
    table = pd.read_csv(report / "tables" / "loss_shares.csv").set_index("gamma")
    for gamma in (2.0, 0.0, 0.5, 1.0):
        page.choose("gamma", f"{gamma:g}")
        shares = json.loads(
            page.run("return document.querySelector('#loss-finding').dataset.shares")
        )
        assert 100 * shares[0] == pytest.approx(table.loc[gamma, "positives"], abs=0.03)
        assert 100 * shares[1] == pytest.approx(table.loc[gamma, "negatives"], abs=0.03)
        assert f"At γ = {gamma:g} " in page.text("#loss-finding")
        shown = re.findall(r"([\d.]+) %", page.text("#loss-finding"))
        assert float(shown[1]) == pytest.approx(table.loc[gamma, "positives"], abs=0.08)


@pytest.mark.parametrize(("gamma", "alpha"), [(0, 0.5), (2, 0.25), (3.5, 0.9)])
def test_the_scripts_formulas_are_pythons(
    page: Any, sweep: Path, gamma: float, alpha: float
) -> None:
    logits = np.array([-30.0, -3.0, -0.5, 0.0, 1e-3, 2.0, 30.0])
    for name, formula in (
        ("focalLoss", focal_loss),
        ("focalLossDerivative", focal_loss_derivative),
    ):
        script = f"return arguments[0].map((x) => {name}(x, arguments[1]))"
        found = page.run(script, logits.tolist(), gamma)
        np.testing.assert_allclose(found, formula(logits, gamma), rtol=1e-12, atol=1e-300)
    page.choose("gamma", str(gamma))
    page.choose("alpha", str(alpha))
    trial = page.run("return state.model")
    sample = read_logits(sweep / "trials" / trial / PROBABILITIES)
    shares = json.loads(page.run("return document.querySelector('#loss-finding').dataset.shares"))
    assert 100 * shares[2] == pytest.approx(negative_share(sample, gamma, alpha), abs=0.03)
    drawn = page.driver.execute_async_script(
        "const done = arguments[0]; views.negatives.then((view) =>"
        " done(view.data('rows').map((row) => [row.fraction, row.share])))"
    )
    exact = loss_cdf(sample.negative, False, gamma)
    at = np.array(drawn)
    # The full histogram's curve, within what a line is wide.
    np.testing.assert_allclose(
        at[:, 1], np.interp(at[:, 0], exact.fraction, exact.share), atol=2e-3
    )


def _table(page: Any, selector: str) -> list[list[str]]:
    script = (
        "return [...document.querySelectorAll(arguments[0])]"
        ".map((row) => [...row.cells].map((cell) => cell.textContent))"
    )
    return page.run(script, f"{selector} tbody tr:not([hidden])")


def test_another_baseline_shows_the_reports_p_values(
    page: Any, sweep: Path, tmp_path: Path
) -> None:
    other = "gamma=2 alpha=0.25"
    page.choose("baseline", other)
    write_report([sweep], tmp_path / "other", baseline=other)
    text = (tmp_path / "other" / "README.md").read_text()
    section = text.split("## Against the baseline")[1].split("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if " | " in line][2:]
    expected = {row[0]: [row[1], row[2], row[4], row[5]] for row in rows}
    shown = {row[0]: row[1:5] for row in _table(page, "#differences-table")}
    assert len(shown) == len(GRID)
    assert shown == expected
    best = pd.read_csv(tmp_path / "other" / "tables" / "against_best.csv").set_index("label")
    corrected = {row[0]: row[5:7] for row in _table(page, "#differences-table")}
    for label, row in best.drop(index=other).iterrows():
        for text, p in zip(corrected[label], (row["p_seeds"], row["p_total"]), strict=True):
            assert text == ("< 0.001" if p < 0.001 else f"{p:.3f}")


def test_a_hostile_label_stays_text(page: Any, report: Path) -> None:
    page.choose("cell", HOSTILE)
    page.choose("baseline", HOSTILE)
    page.choose("left", HOSTILE)
    assert page.run("return document.querySelectorAll('img').length") == 0
    assert page.run("return document.scripts.length") == 4  # the data and three scripts
    assert HOSTILE in [row[0].strip() for row in _table(page, "#cells-table")]
    assert HOSTILE in page.text("#baseline-finding")
    # A tooltip is the one text that comes by way of the plotting library.
    shown = page.run(
        "tooltip(null, {clientX: 0, clientY: 0}, null, {cell: arguments[0]});"
        "return document.querySelector('.tip').textContent",
        HOSTILE,
    )
    assert shown == f"cell: {HOSTILE}"
    assert page.messages() == []


def test_the_address_keeps_the_view(page: Any, browser: Any, report: Path) -> None:
    page.choose("metric", "AP of class 3")
    page.choose("gamma", "3.5")
    page.choose("filter", "gamma=2")
    page.run("document.querySelector('[data-column=\"2\"]').click()")
    fragment = page.run("return location.hash")
    rows = _table(page, "#cells-table")
    assert rows[0][0].strip() == "gamma=2 alpha=0.25"  # the highest AP first
    assert len(rows) == 3
    browser.open(report / PAGE, fragment)
    assert _table(browser, "#cells-table") == rows
    assert browser.text("#grid-finding").startswith("AP of class 3: highest mean")
    assert "At γ = 3.5 " in browser.text("#loss-finding")
    browser.open(report / PAGE, "#gamma=nonsense&metric=%3Cb%3E&sort=9&unknown=1&model=x")
    assert browser.messages() == []
    assert browser.run("return location.hash") == ""


def test_a_cells_trials_are_shown_with_their_reasons(page: Any) -> None:
    page.run("document.querySelector('[data-cell=\"gamma=5 alpha=0.5\"]').click()")
    rows = _table(page, "#trials-table")
    assert [row[0:2] for row in rows] == [["0", "finished"], ["1", "failed"], ["2", "finished"]]
    assert rows[1][6] == "ValueError: no such thing"
    assert rows[0][2] != "-" and rows[1][2] == "-"
    assert page.run("return document.activeElement.id") == "trials"


def test_a_plot_is_saved_as_svg_and_csv(page: Any) -> None:
    saved = (
        "const done = arguments[arguments.length - 1]; const blobs = [];"
        "URL.createObjectURL = (blob) => { blob.text().then(done); return '#'; };"
        "document.querySelector(arguments[0]).click();"
    )
    button = "[data-chart=metric][data-save={}]"
    svg = page.driver.execute_async_script(saved, button.format("svg"))
    assert ElementTree.fromstring(svg).tag.endswith("svg")
    text = page.driver.execute_async_script(saved, button.format("csv"))
    rows = list(csv.DictReader(io.StringIO(text)))
    at = next(row for row in rows if row["cell"] == "gamma=2 alpha=0.25")
    assert 45 < float(at["low"]) < float(at["mean"]) < float(at["high"]) < 48


def test_the_threshold_takes_detections_away(page: Any) -> None:
    counts = []
    for score in ("0.05", "0.5", "0.95"):
        page.choose("score", score)
        counts.append(int(page.text("#detections-finding").split()[0]))
        assert (
            page.run("return document.querySelectorAll('#images rect.found').length") == counts[-1]
        )
    assert counts[0] > counts[1] > counts[2]


def test_what_is_not_there_leaves_a_page_that_says_so(browser: Any, tmp_path: Path) -> None:
    points = [{"loss": "FL*", "gamma": 2.0, "beta": 1.0}, {"scales": 3}]
    planned = fabricate(tmp_path / "planned", Plan(points=points, files=False))
    nothing = Plan(points=points, seeds=(0,), states={("scales=3", 0): "pending"}, files=False)
    nothing.states["FL* gamma=2 beta=1", 0] = "failed"
    for name, work_dir in (
        ("without_files", planned),
        ("nothing_finished", fabricate(tmp_path / "nothing", nothing)),
    ):
        page = write_report([work_dir], tmp_path / name).parent / PAGE
        browser.open(page)
        assert browser.messages(errors=True) == [], name
        assert "No finished trial kept the logits" in browser.text("#loss-finding")
    assert browser.text("#baseline-finding") == "There is nothing to compare."


def test_no_serious_violation_of_accessibility(page: Any) -> None:
    axe = (files("axe_core_python") / "axe.min.js").read_text()
    for dark in (False, True):
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        page.run(axe)
        found = page.driver.execute_async_script(
            "const done = arguments[arguments.length - 1]; axe.run().then(done)"
        )
        serious = [
            (rule["id"], rule["impact"], [node["html"][:120] for node in rule["nodes"][:3]])
            for rule in found["violations"]
            if rule["impact"] in ("serious", "critical")
        ]
        assert serious == []
        assert len(found["passes"]) > 20


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, False), (1280, True)])
def test_it_fits_a_desktop_and_a_phone(
    browser: Any, report: Path, tmp_path: Path, width: int, dark: bool
) -> None:
    browser.open(report / PAGE, width=width, dark=dark)
    assert browser.run("return document.documentElement.scrollWidth") <= width
    over = browser.run(
        "return [...document.querySelectorAll('.chart svg')].filter((svg) =>"
        " svg.getBoundingClientRect().right > innerWidth + 1 || svg.getBoundingClientRect().width"
        " < 200).map((svg) => svg.parentElement.id)"
    )
    assert over == []
    kept = Path(os.environ.get("SCREENSHOTS") or tmp_path)
    kept.mkdir(parents=True, exist_ok=True)
    browser.screenshot(kept / f"page-{width}{'-dark' if dark else ''}.png")


def test_it_opens_within_two_seconds_of_one_core(browser: Any, report: Path) -> None:
    enable = {"timeDomain": "threadTicks"}  # the core may be shared with somebody
    browser.driver.execute_cdp_cmd("Performance.enable", enable)
    browser.open(report / PAGE)
    metrics = browser.driver.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
    spent = {metric["name"]: metric["value"] for metric in metrics}
    assert 0 < spent["TaskDuration"] < 2
