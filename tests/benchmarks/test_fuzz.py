"""A few hundred random inputs to the readers; ``make fuzz`` tries ten thousand."""

import pytest

from benchmarks.fuzz import TARGETS, BrokenError, fuzz, run


@pytest.mark.parametrize("name", TARGETS)
def test_every_input_is_accepted_or_refused_in_one_line(name: str) -> None:
    counts = fuzz(TARGETS[name], inputs=50, number=1)
    assert counts["accepted"] and counts["refused"]


def test_a_traceback_a_second_line_and_another_status_are_found() -> None:
    def command(arguments: list[str]) -> int:
        if arguments[0] == "raises":
            raise KeyError("x")
        print(*arguments[1:], sep="\n", file=__import__("sys").stderr)
        return int(arguments[0])

    assert run(command, "2", "x: error: no") == "refused"
    with pytest.raises(KeyError):
        run(command, "raises")
    for wrong in (("2", "error: a", "error: b"), ("2", "error: a", "b"), ("2", ""), ("3", "")):
        with pytest.raises(BrokenError):
            run(command, *wrong)
