"""The page on reliability: each suite writes its own section and leaves the others."""

from pathlib import Path

import pytest

from benchmarks import reliability


def test_each_suite_writes_its_own_section(tmp_path: Path) -> None:
    page = tmp_path / "reliability.md"
    reliability.write("fuzz", {"inputs tried": 10_000}, page)
    reliability.write("chaos", {"kills survived": 99}, page)
    reliability.write("chaos", {"kills survived": 100, "seed": "7"}, page)
    text = page.read_text()
    assert text.index("| kills survived | 100 |") < text.index("| inputs tried | 10,000 |")
    assert "99" not in text
    assert text.count("| machine |") == 2


def test_an_unknown_section_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no section 'luck'; valid: chaos, fuzz"):
        reliability.write("luck", {}, tmp_path / "page.md")
    assert list(tmp_path.iterdir()) == []
