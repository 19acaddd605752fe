"""Seats: a slot's block is nobody else's while one of its concept's owners still uses it.

Random histories of a few slots, members and events, against laws that are written down here without
a line of the machine's own; bugs that are put into it on purpose must break one of them.
"""

import random
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest

from orthofed.coordinator import leases
from orthofed.coordinator.slot_events import (
    Action,
    Ask,
    Commit,
    Draw,
    Event,
    GiveBack,
    Grant,
    Join,
    Publish,
    Refuse,
    Reject,
    Renew,
    Revise,
    Revoke,
    Withdraw,
)
from orthofed.coordinator.slots import Slot, Slots

from .seeded import Bug

TTL_S = 900
MEMBERS = ("ana", "ben", "cleo", "dora")
BUGS = ("seat-outlived", "seat-beside-nothing")
Step = Callable[[Slots, Event], tuple[Slots, tuple[Action, ...]]]


def house(num: int = 2) -> Slots:
    return Slots(slots=(Slot(),) * num, ttl_s=TTL_S, hold_s=86_400)


def events(state: Slots, rng: random.Random, now_s: float) -> Event:
    """Return something that somebody may want; much of it is refused."""
    index = rng.randrange(len(state.slots))
    slot, member = state.slots[index], rng.choice(MEMBERS)
    client = f"{member}-{rng.randrange(1 << 30)}"
    holding = frozenset(i for i, s in enumerate(state.slots) if s.phase in ("filled", "revising"))
    return rng.choice(
        (
            Ask(now_s, client, member),
            Join(now_s, client, member, rng.randrange(2)),
            Join(now_s, client, member, 0),
            Revise(now_s, f"{slot.member}-{client}", slot.member, index, slot.kept),
            Renew(now_s, slot.client, index, slot.fence, progress=rng.randrange(9)),
            Commit(slot.client, index, slot.fence),
            Commit(slot.client, index, slot.fence),
            Commit(slot.client, index, max(0, slot.fence - 1)),
            GiveBack(slot.client, index, slot.fence),
            Withdraw(slot.keeper, index, slot.kept),
            Reject(index, slot.kept),
            Revoke(member),
            Draw(holding),
            Publish(),
        )
    )


def check(before: Slots, event: Event, after: Slots, actions: tuple[Action, ...]) -> None:
    """Hold one step to the laws."""
    granted = [each for each in actions if isinstance(each, Grant)]
    assert len(after.slots) >= len(before.slots)
    for index, slot in enumerate(after.slots):
        was = before.slots[index] if index < len(before.slots) else Slot()
        grown = sum(each.slot == index for each in granted)
        assert slot.fence == was.fence + grown, "I1: a fence grows by one at a grant, never else"
        assert (slot.home >= 0) == (index >= 2), "a slot stays a slot, a seat a seat"
        used = index in after.released or index in (after.planned or ())
        if slot.phase in ("free", "leased"):
            assert not used, "I5: in a release, and free for another concept"
        if slot.home < 0:
            seats = [s for s in after.slots if s.home == index and s.phase != "free"]
            assert not seats or slot.phase not in ("free", "leased"), "I5: the block is in use"
            assert len(seats) <= leases.MOST_OWNERS - 1
            if slot.phase == "emptying":
                assert seats or used, "what nobody uses is free"
        elif slot.phase == "leased":
            home = after.slots[slot.home]
            assert home.phase in ("filled", "revising"), "who has sent nothing ends with its home"
    if isinstance(event, Commit) and not isinstance(actions[0], Refuse):
        held = before.slots[event.slot]
        assert (held.client, held.fence) == (event.client, event.fence)
        assert held.phase in ("leased", "revising")
    if any(isinstance(each, Refuse) for each in actions):
        assert replace(after, slots=after.slots[: len(before.slots)]) == before


def walk(step: Step, seed: int, length: int = 120) -> tuple[list[str], Slots]:
    """Take one random history; return the kinds of what was done, and where it ended."""
    rng = random.Random(seed)  # noqa: S311  # a history, not a secret
    state, now_s = house(), 0.0
    done: list[str] = []
    for _ in range(length):
        now_s += rng.choice((1.0, 1.0, 400.0))
        event = events(state, rng, now_s)
        after, actions = step(state, event)
        check(state, event, after, actions)
        if actions and not isinstance(actions[0], Refuse):
            done.append(type(event).__name__)
        state = after
    return done, state


def test_random_histories_keep_every_law():
    """Three hundred of them reach every event, many seats, and a home that outlives its owner."""
    seen: list[str] = []
    most = outlived = 0
    for seed in range(300):
        done, state = walk(leases.step, seed)
        seen += done
        most = max(most, len(state.slots))
        outlived += any(
            slot.phase == "emptying" and state.seats(index)
            for index, slot in enumerate(state.slots)
        )
    assert {"Ask", "Join", "Revise", "Withdraw", "Reject", "Publish", "Revoke"} <= set(seen)
    assert most > 3
    assert outlived > 10


@pytest.mark.parametrize("name", BUGS)
def test_a_seeded_bug_of_seats_is_caught(name):
    """A law of this file fails where the machine is wrong on purpose."""
    with Bug.named(name).in_process(), pytest.raises(AssertionError):
        [walk(leases.step, seed) for seed in range(300)]


def test_sixteen_own_a_concept_and_no_more():
    """The seventeenth is refused until one of the leases is late; then it has that seat."""
    state = house()
    state, _ = leases.step(state, Ask(0.0, "c", "m"))
    state, _ = leases.step(state, Commit("c", 0, 1))
    for n in range(15):
        state, _ = leases.step(state, Join(float(n), f"c{n}", f"m{n}", 0))
    full, (refused,) = leases.step(state, Join(20.0, "x", "mx", 0))
    late, (granted,) = leases.step(state, Join(TTL_S + 0.5, "x", "mx", 0))

    assert isinstance(refused, Refuse)
    assert refused.code == "no-seat"
    assert len(full.slots) == 17
    assert granted == Grant(2, 2)
    assert late.slots[2].client == "x"
    assert all(one.fence == 1 for one, _ in pairwise(late.slots[3:]))
