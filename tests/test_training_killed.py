"""No work is lost: killed at forty random moments, a training ends with the bits of another.

Both the kernel's SIGKILL, also inside a save, and a person's Ctrl-C, once and twice (reliability.md
5). The processes are real; see forked_training.py.
"""

from pathlib import Path

from .forked_training import STEPS, forked


def test_a_training_that_is_killed_at_forty_random_moments_ends_with_the_same_bits(
    tmp_path: Path,
) -> None:
    """A and the vectors of every training; each of its steps stands in the log once."""
    found = forked(tmp_path, "kill", 40)

    assert {process["exit"] for process in found.processes} == {-9}
    assert any(process["torn"] for process in found.processes), "no kill fell into a save"
    assert any(process["begin"] > 0 for process in found.processes), "none went on from a save"
    assert set(found.ends) == {found.expected}
    assert [log for log in found.logs if log != list(range(1, STEPS + 1))] == []


def test_ctrl_c_finishes_the_step_and_saves_it(tmp_path: Path) -> None:
    """The next process goes on behind the very step that was reported last; the same bits."""
    found = forked(tmp_path, "interrupt", 6)

    assert {process["exit"] for process in found.processes} <= {3, 4}
    stopped = [process for process in found.processes if process["exit"] == 3]
    assert stopped
    for process in found.processes:
        assert process["exit"] == 3 or process["last"] == -1, "only before the first step"
    for process in stopped:
        assert process["saved"] == process["last"]
    assert set(found.ends) == {found.expected}
    assert [log for log in found.logs if log != list(range(1, STEPS + 1))] == []


def test_ctrl_c_twice_stops_at_once_and_the_older_saves_stay_whole(tmp_path: Path) -> None:
    """In a step, in a save, between two: what is believed afterwards leads to the same bits."""
    found = forked(tmp_path, "twice", 10)

    assert {process["exit"] for process in found.processes} <= {3, 4}
    assert set(found.ends) == {found.expected}
    assert [log for log in found.logs if log != list(range(1, STEPS + 1))] == []
