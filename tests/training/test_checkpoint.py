"""A checkpoint is whole or is not used; the one before takes its place."""

import io
import os
import signal
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ablations.store.record import CHECKPOINT, PREVIOUS
from ablations.training import stopping
from ablations.training.checkpoint import usable_checkpoint
from ablations.training.stopping import Interrupted


def checkpoint(iteration: int) -> bytes:
    stream = io.BytesIO()
    torch.save({"meta": {"iter": iteration}, "weight": torch.arange(5000.0)}, stream)
    return stream.getvalue()


def flip(position: float) -> Callable[[bytes], bytes]:
    def change(content: bytes) -> bytes:
        at = int(position * len(content))
        return content[:at] + bytes([content[at] ^ 0x10]) + content[at + 1 :]

    return change


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "torn": lambda content: content[: len(content) // 2],
    "without its end": lambda content: content[:-30],
    "zeros": lambda content: bytes(len(content)),
    "a flipped bit of a weight": flip(0.5),
    "text": lambda content: b"half-way",
    "no checkpoint": lambda content: _archive(),
}


def _archive() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("hello", "world")
    return stream.getvalue()


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=list(DAMAGE))
def test_a_damaged_checkpoint_is_set_aside_for_the_one_before(tmp_path: Path, damage) -> None:
    (tmp_path / CHECKPOINT).write_bytes(damage(checkpoint(20)))
    (tmp_path / PREVIOUS).write_bytes(checkpoint(10))
    told: list[str] = []
    found = usable_checkpoint(tmp_path, told.append)
    assert found == tmp_path / PREVIOUS
    assert torch.load(found, weights_only=True)["meta"]["iter"] == 10
    (line,) = told
    assert line.startswith(f"{tmp_path / CHECKPOINT} is damaged (") and "\n" not in line
    assert line.endswith("now checkpoint-damaged-1.pth; the trial continues from the one before")
    assert (tmp_path / "checkpoint-damaged-1.pth").is_file()
    assert usable_checkpoint(tmp_path, pytest.fail) == found


def test_a_bit_flipped_anywhere_is_found_or_harmless(tmp_path: Path) -> None:
    whole = checkpoint(20)
    for step in range(60):
        (tmp_path / CHECKPOINT).write_bytes(flip(step / 60)(whole))
        if (found := usable_checkpoint(tmp_path, lambda line: None)) is not None:
            loaded = torch.load(found, weights_only=True)
            assert loaded["meta"] == {"iter": 20}
            assert torch.equal(loaded["weight"], torch.arange(5000.0))


def test_without_a_whole_checkpoint_the_trial_begins_anew(tmp_path: Path) -> None:
    assert usable_checkpoint(tmp_path, pytest.fail) is None
    for name in (CHECKPOINT, PREVIOUS):
        (tmp_path / name).write_bytes(b"")
    told: list[str] = []
    assert usable_checkpoint(tmp_path, told.append) is None
    assert len(told) == 2 and told[1].endswith("the trial continues from the beginning")


def test_a_whole_checkpoint_is_taken(tmp_path: Path) -> None:
    (tmp_path / CHECKPOINT).write_bytes(checkpoint(20))
    (tmp_path / PREVIOUS).write_bytes(b"")
    assert usable_checkpoint(tmp_path, pytest.fail) == tmp_path / CHECKPOINT
    assert (tmp_path / PREVIOUS).exists()


def test_a_signal_stops_at_once_where_nothing_is_to_save_and_is_noted_elsewhere() -> None:
    before = {number: signal.getsignal(number) for number in stopping.SIGNALS}
    with pytest.raises(Interrupted, match="SIGTERM"), stopping.listening():
        os.kill(os.getpid(), signal.SIGTERM)
        pytest.fail("not stopped")
    with stopping.listening():
        assert stopping.told() is None
        stopping.at_once(False)
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGTERM)  # the first counts
        assert stopping.told() == signal.SIGHUP
        with pytest.raises(Interrupted, match="SIGHUP"):
            stopping.at_once(True)
    assert {number: signal.getsignal(number) for number in stopping.SIGNALS} == before
