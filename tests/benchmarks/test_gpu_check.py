"""`make gpu-check` without a GPU: a part that fails does not stop the others, and the kernel's part
runs in Triton's interpreter. `.ci/run` rehearses all of it."""

import importlib.util
from pathlib import Path

import pytest

from benchmarks import gpu_check
from benchmarks.gpu_check import PARTS, Part


def test_the_parts_take_nine_minutes_at_most() -> None:
    assert sum(part.limit_s for part in PARTS) <= 9 * 60
    for part in PARTS:
        assert importlib.util.find_spec(f"benchmarks.{part.module}")


def test_a_part_that_fails_is_reported_and_the_next_one_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "benchmarks"
    package.mkdir()
    (package / "bad.py").write_text("print('| half |'); raise RuntimeError('out of memory')")
    (package / "good.py").write_text("print('| 42 ms |')")
    (package / "slow.py").write_text("import time; time.sleep(60)")
    monkeypatch.setattr(gpu_check, "ROOT", tmp_path)
    parts = (Part("Bad", "bad", 60), Part("Slow", "slow", 0), Part("Good", "good", 60))
    monkeypatch.setattr(gpu_check, "PARTS", parts)
    monkeypatch.setattr(gpu_check, "name_of_gpu", lambda: "a card")
    assert gpu_check.main(["--out", str(tmp_path / "gpu.md")]) == 1
    page = (tmp_path / "gpu.md").read_text()
    assert "2 of 3 parts failed" in page and "a card" in page
    assert "failed: RuntimeError: out of memory" in page and "| half |" in page
    assert "not finished after 0 s" in page
    assert "| 42 ms |" in page


def test_without_a_gpu_it_is_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu_check, "name_of_gpu", lambda: None)
    assert gpu_check.main([]) == 2
    assert "--rehearse" in capsys.readouterr().err


def test_two_processes_and_the_kernel_rehearse() -> None:
    pytest.importorskip("triton")
    for part in PARTS:
        if part.module in ("gpu_kernel", "gpu_processes"):
            outcome = gpu_check.run(part, rehearse=True)
            assert outcome.problem is None, outcome.text
