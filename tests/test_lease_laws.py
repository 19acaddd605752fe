"""The slots' laws under every order of events, and proof that they notice a broken machine."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orthofed.coordinator import leases
from orthofed.coordinator.slot_events import (
    Arrive,
    Ask,
    Commit,
    Discard,
    Draw,
    Event,
    GiveBack,
    Keep,
    Publish,
    Reject,
    Renew,
    Restart,
    Revise,
    Revoke,
    Withdraw,
)

from .lease_laws import Told, explore, fresh
from .seeded import Bug

BUGS = (
    "fence-not-compared",
    "client-not-compared",
    "fence-not-raised",
    "deadline-checked-in-commit",
    "slot-freed-early",
    "plan-forgotten",
    "emptying-never-freed",
    "restart-keeps-deadlines",
    "filled-slot-given-away",
    "revision-frees-slot",
    "late-revision-given-away",
    "committed-taken-for-live",
)


def test_two_clients_and_one_slot_in_every_order(capsys):
    """Every history of 16 events, then every state there is: no law breaks anywhere.

    Two clients, one slot, up to 30 events in each state, among them the clients' own and each
    other's, of the newest fence and the one before; all but Ask with any deadline.
    """
    short = explore(clients=("ana", "ben"), num_slots=1, depth=16)
    whole = explore(clients=("ana", "ben"), num_slots=1)

    with capsys.disabled():
        print(f"\n2 clients, 1 slot, depth 16: {short.states} states, {short.transitions} steps")
        print(f"all states: {whole.states} (depth {whole.depth}), {whole.transitions} steps")
    assert short.states > 400
    assert whole.states > 100


@pytest.mark.parametrize("name", BUGS)
def test_a_seeded_bug_of_the_machine_is_caught(name):
    """Each classic fault, planted in a copy: the walk must not stay green."""
    with Bug.named(name).everywhere(), pytest.raises(AssertionError):
        explore(leases.step, clients=("ana", "ben"), num_slots=1)


CLIENTS = st.sampled_from(["ana", "ben", "cid"])
SLOTS = st.integers(-1, 2)
FENCES = st.integers(0, 4)
EVENTS = st.one_of(
    st.builds(lambda client: Ask(0, client, client), CLIENTS),
    st.builds(Renew, st.just(0.0), CLIENTS, SLOTS, FENCES, st.integers(0, 5)),
    st.builds(Arrive, st.just(0.0), CLIENTS, SLOTS, FENCES, st.booleans()),
    st.builds(GiveBack, CLIENTS, SLOTS, FENCES),
    st.builds(Commit, CLIENTS, SLOTS, FENCES),
    st.builds(lambda who, *at: Revise(0, who, who, *at), CLIENTS, SLOTS, FENCES),
    st.builds(Keep, CLIENTS, SLOTS, FENCES),
    st.builds(Withdraw, CLIENTS, SLOTS, FENCES),
    st.builds(Reject, SLOTS, FENCES),
    st.builds(Revoke, CLIENTS),
    st.builds(Draw, st.frozensets(st.integers(0, 1))),
    st.just(Publish()),
    st.just(Discard()),
    st.just(Restart(0.0)),
    st.integers(0, 2_000),
)


def _at(event: Event, now_s: float) -> Event:
    return replace(event, now_s=now_s) if hasattr(event, "now_s") else event


@settings(derandomize=True, deadline=None, max_examples=300)
@given(st.lists(EVENTS, max_size=40))
def test_every_history_keeps_the_laws(history: list[Event | int]):
    """Three clients and two slots, any events in any order with any time between them."""
    state, told = fresh(2)
    now_s = 0.0

    for event in history:
        if isinstance(event, int):
            now_s += event
            continue
        event = _at(event, now_s)  # noqa: PLW2901  # the same event, now
        after, actions = leases.step(state, event)
        told: Told = told.check(state, event, after, actions)
        state = after


@settings(derandomize=True, deadline=None, max_examples=50)
@given(st.lists(EVENTS, max_size=30), st.integers(-(10**9), 10**9))
def test_a_history_does_not_depend_on_where_the_clock_starts(history: list[Event | int], start):
    """I8: the same events, every time shifted: the same actions."""

    def said(begin: float) -> list:
        state, _ = fresh(2)
        now_s, found = begin, []
        for event in history:
            if isinstance(event, int):
                now_s += event
                continue
            state, actions = leases.step(state, _at(event, now_s))
            found.append(actions)
        return found

    assert said(0.0) == said(float(start))
