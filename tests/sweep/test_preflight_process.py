"""The process that checks a plan, when its command is gone."""

import multiprocessing

import pytest

from ablations.sweep import preflight


def test_it_ends_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(preflight, "check_plan", dict)
    receiver, sender = multiprocessing.Pipe(duplex=False)
    receiver.close()
    context = multiprocessing.get_context("fork")
    process = context.Process(target=preflight._check, args=(sender,))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert capfd.readouterr().err == ""
