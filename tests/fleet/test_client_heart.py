"""The client's fleet heart: restarts with pauses, silence (L8), and no storm."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orthofed.client import fleet as heart

from ..seeded import Bug


class ClientWorld:
    """Two processes in a dict; ``age_s``: what the coordinator says of the node."""

    def __init__(self) -> None:
        self.state = heart.Node()
        self.now_s = 500.0
        self.up = {heart.NODE: False, heart.EXECUTOR: False}
        self.deaf = False
        self.age_s: int | None = None
        self.starts: list[tuple[float, str]] = []
        self.down_s: dict[str, float] = {}
        self.over = False

    def feed(self, event: heart.Event) -> None:
        """Give the heart one event and carry out what it wants."""
        self.state, actions = heart.step(self.state, event)
        for action in actions:
            assert not self.over
            match action:
                case heart.Start(name):
                    assert not self.up[name], f"{name} started twice"
                    self.up[name] = True
                    self.down_s.pop(name, None)
                    self.starts.append((self.now_s, name))
                case heart.Terminate(name):
                    if not self.deaf:
                        self.end(name)
                case heart.Kill(name):
                    self.end(name)
                case heart.AskSeen():
                    self.feed(heart.Seen(self.age_s))
                case heart.End():
                    assert not any(self.up.values())
                    self.over = True

    def end(self, name: str) -> None:
        """End a process, if it runs."""
        if self.up[name]:
            self.up[name] = False
            self.down_s[name] = self.now_s
            self.feed(heart.Exited(name))

    def pass_time(self, seconds: int) -> None:
        """Let time pass, a second at a time."""
        for _ in range(seconds):
            self.now_s += 1
            self.feed(heart.Tick(self.now_s))
            for name, at in self.down_s.items():
                assert self.state.is_stopping or self.now_s - at <= 66, f"{name} stays down"

    def starts_of(self, name: str, *, since_s: float = 0.0) -> list[float]:
        """Return when a process was started."""
        return [at for at, each in self.starts if each == name and at >= since_s]


FAULT = st.sampled_from(["node", "executor", "deaf", "hears", "seen", "unseen", "unknown"])


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.lists(st.tuples(FAULT, st.integers(0, 200)), max_size=25))
def test_both_processes_run_again_after_any_faults(faults: list[tuple[str, int]]) -> None:
    """They die, do not hear SIGTERM, are seen or not; then all goes well for 200 s, then a stop."""
    world = ClientWorld()

    for fault, seconds in faults:
        match fault:
            case "node":
                world.end(heart.NODE)
            case "executor":
                world.end(heart.EXECUTOR)
            case "deaf" | "hears":
                world.deaf = fault == "deaf"
            case _:
                world.age_s = {"seen": 3, "unseen": 500, "unknown": None}[fault]
        world.pass_time(seconds)
        for name in world.up:
            assert len(world.starts_of(name, since_s=world.now_s - 60)) <= 5, "a restart storm"
    world.age_s = 3
    world.pass_time(200)

    assert all(world.up.values())
    world.feed(heart.Stop())
    world.pass_time(40)
    assert world.over


def _silent_node() -> ClientWorld:
    world = ClientWorld()
    world.pass_time(10)
    world.age_s = 500
    world.pass_time(120)
    return world


def _is_replaced() -> None:
    world = _silent_node()
    world.pass_time(110)
    assert len(world.starts_of(heart.NODE)) == 2


def _does_not_beat_on_superlink() -> None:
    world = _silent_node()
    world.pass_time(3_600)
    assert len(world.starts_of(heart.NODE)) <= 6


CAUGHT_BY = {
    "process-table-trusted": _is_replaced,
    "silence-without-patience": _does_not_beat_on_superlink,
}


def test_a_silent_node_is_replaced_within_240_s() -> None:
    """L8: the process lives and the coordinator does not see it: SIGTERM, 65 s later a new one."""
    _is_replaced()


def test_a_node_that_replacing_does_not_help_is_replaced_ever_more_rarely() -> None:
    """The trouble is SuperLink: a whole fleet restarts five times in its first hour, not twenty."""
    _does_not_beat_on_superlink()


@pytest.mark.parametrize("name", CAUGHT_BY)
def test_a_seeded_bug_of_the_heart_is_caught(name: str) -> None:
    """Each is planted in a copy; the check of the test above must see it."""
    with Bug.named(name).everywhere(), pytest.raises(AssertionError):
        CAUGHT_BY[name]()
