"""The coordinator's fleet heart in a world of faults, and proof that its laws are looked at."""

import sys

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from orthofed.coordinator import fleet_events as events

from ..seeded import Bug
from .fleet_world import FleetWorld, forget_starts

BUGS = (
    "run-started-unlisted",
    "run-started-once",
    "restart-without-pause",
    "node-ids-for-identity",
    "hung-superlink-kept",
)


class Faults(RuleBasedStateMachine):
    """Every fault of flower.md 4 that the coordinator's side can have, in any order."""

    @initialize()
    def begin(self) -> None:
        self.world = FleetWorld()

    @rule(seconds=st.sampled_from([0.5, 1.0, 3.0, 10.0, 30.0]))
    def wait(self, seconds: float) -> None:
        self.world.advance(seconds)

    @rule(lost=st.booleans())
    def command_ends(self, *, lost: bool) -> None:
        self.world.finish(lost=lost)

    @rule(name=st.sampled_from([events.LINK, events.EXECUTOR]))
    def process_dies(self, name: str) -> None:
        self.world.end(name)

    @rule(name=st.sampled_from([events.LINK, events.EXECUTOR]))
    def process_dies_whenever_it_starts(self, name: str) -> None:
        for _ in range(20):
            self.world.end(name)
            self.world.settle(1)

    @rule(seconds=st.sampled_from([4, 30, 150]))
    def superlink_hangs(self, seconds: int) -> None:
        self.world.hung = self.world.up[events.LINK]
        self.world.settle(seconds)
        assert seconds < 150 or not self.world.hung, "a SuperLink that hangs is kept"
        self.world.hung = False

    @rule()
    def bridge_stands_still(self) -> None:
        self.world.freeze()

    @rule()
    def database_is_lost(self) -> None:
        self.world.lose_database()

    @rule(unsaid=st.booleans())
    def coordinator_is_deaf(self, *, unsaid: bool) -> None:
        self.world.unsaid = unsaid

    @rule()
    def supervisor_is_killed(self) -> None:
        forget_starts(self.world)

    @rule(seconds=st.sampled_from([5, 20, 100]))
    def all_goes_well(self, seconds: int) -> None:
        self.world.settle(seconds)

    def teardown(self) -> None:
        """Whatever happened: when it stops, all is well again, and a stop ends everything."""
        if not hasattr(self, "world") or sys.exception() is not None:
            return
        world = self.world
        world.unsaid = False
        world.settle(400)
        world.check_well()
        node = next(iter(world.nodes))
        del world.store[world.nodes[node]]
        world.gone.add(node)
        world.settle(30)
        assert node not in world.nodes, "a revoked member's node is still registered"
        world.feed(events.Stop())
        world.settle(60)
        assert world.over
        assert not world.runs, "the run was left behind"


def _play(*phases: Phase) -> None:
    chosen = settings(
        derandomize=True,
        deadline=None,
        max_examples=60,
        stateful_step_count=30,
        phases=phases,
        report_multiple_bugs=False,
    )
    run_state_machine_as_test(Faults, settings=chosen)


def test_one_run_turns_again_after_any_faults_and_never_two() -> None:
    """Processes die, hang, lose their database and their answers; then 400 s without a fault.

    On the way: never two live runs, no process started twice or more than 8 times a minute,
    SuperLink never down for longer than its longest pause.
    """
    _play(*Phase)


@pytest.mark.parametrize("name", BUGS)
def test_a_seeded_bug_of_the_heart_is_caught(name: str) -> None:
    """Each classic fault, planted in a copy: the play must not stay green."""
    with Bug.named(name).everywhere(), pytest.raises(AssertionError):
        _play(Phase.generate)
