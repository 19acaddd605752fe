"""The slots' state machine: the table of reliability.md 3, as histories and as laws."""

from dataclasses import replace

import pytest

from orthofed.coordinator.leases import step
from orthofed.coordinator.slot_events import (
    Arrive,
    Ask,
    Commit,
    Draw,
    Empty,
    Fill,
    Free,
    GiveBack,
    Grant,
    Hold,
    Publish,
    Refuse,
    Reject,
    Renew,
    Restart,
    Withdraw,
)
from orthofed.coordinator.slots import Slot, Slots

TTL = 900


def house(num: int = 2, **changed) -> Slots:
    return Slots((Slot(),) * num, ttl_s=TTL, hold_s=86_400, **changed)


def play(state: Slots, *events) -> tuple[Slots, list]:
    said = []
    for event in events:
        state, actions = step(state, event)
        said.append(actions[0] if len(actions) == 1 else actions)
    return state, said


def test_a_late_commit_counts_until_the_slot_is_leased_anew():
    """One slot: Ana is late, Ben needs it and gets it; then Ana's commit must not count."""
    state, said = play(
        house(1),
        Ask(0, "ana", "a"),
        Ask(TTL - 1, "ben", "b"),
        Ask(TTL, "ben", "b"),
        Commit("ana", 0, 1),
        Commit("ben", 0, 1),
        Commit("ana", 0, 2),
        Commit("ben", 0, 2),
        Commit("ben", 0, 2),
    )

    kinds = [type(action) for action in said]
    assert kinds == [Grant, Refuse, Grant, Refuse, Refuse, Refuse, Fill, Refuse]
    assert state.slots[0].phase == "filled"


def test_a_late_commit_counts_while_nobody_took_the_slot():
    """The deadline passed a day ago and nobody asked: the commit fills the slot."""
    _, said = play(house(1), Ask(0, "ana", "a"), Commit("ana", 0, 1))

    assert said[-1] == Fill(0)


def test_the_slot_longest_past_its_deadline_goes_first_and_free_ones_before():
    """A free slot is taken before any late one; of two late ones the older."""
    state, said = play(
        house(3),
        Ask(0, "ana", "a"),
        Ask(10, "ben", "b"),
        Ask(20, "cid", "c"),
        GiveBack("cid", 2, 1),
        Ask(5_000, "dan", "d"),
        Ask(5_000, "eve", "e"),
        Ask(5_000, "fay", "f"),
        Ask(5_000, "gus", "g"),
    )

    assert said[3] == Free(2)
    assert said[4:7] == [Grant(2, 2), Grant(0, 2), Grant(1, 2)]
    assert isinstance(said[7], Refuse)
    assert said[7].code == "no-free-slot"
    assert [slot.client for slot in state.slots] == ["eve", "fay", "dan"]


def test_only_progress_moves_a_deadline_and_only_up_to_the_hold_limit():
    """Renew with the same step keeps the deadline; after hold_s nothing moves it."""
    state = replace(house(1), hold_s=1_000)

    _, said = play(
        state,
        Ask(0, "ana", "a"),
        Renew(100, "ana", 0, 1, 5),
        Renew(200, "ana", 0, 1, 5),
        Renew(600, "ana", 0, 1, 6),
        Arrive(700, "ana", 0, 1, advanced=True),
        Arrive(800, "ana", 0, 1, advanced=False),
        Renew(1_400, "ana", 0, 1, 7),
    )

    assert said[1:] == [
        Hold(0, 900, 100),
        Hold(0, 800, 200),
        Hold(0, 900, 600),
        Hold(0, 900, 600),
        Hold(0, 800, 600),
        Hold(0, 200, 1_000),
    ]


def test_a_restart_gives_every_leased_slot_a_full_term():
    """One second before its end the coordinator restarts; nobody gets the slot for a term."""
    state, _ = play(house(1), Ask(0, "ana", "a"))

    state, said = play(state, Restart(TTL), Ask(2 * TTL - 1, "ben", "b"), Ask(2 * TTL, "ben", "b"))

    assert isinstance(said[1], Refuse)
    assert said[2] == Grant(0, 2)


def test_giving_back_twice_is_giving_back_once():
    """A resend finds the slot free; after somebody else has it, it is refused."""
    _, said = play(
        house(1),
        Ask(0, "ana", "a"),
        GiveBack("ana", 0, 1),
        GiveBack("ana", 0, 1),
        Ask(1, "ben", "b"),
        GiveBack("ana", 0, 1),
    )

    assert said[1:3] == [Free(0), ()]
    assert isinstance(said[4], Refuse)


def test_one_member_has_one_live_lease():
    """T1: a second lease while one lives is refused; once it is late, it is not."""
    _, said = play(house(), Ask(0, "one", "a"), Ask(1, "two", "a"), Ask(TTL, "two", "a"))

    assert [type(action) for action in said] == [Grant, Refuse, Grant]
    assert said[1].code == "quota-used"


def test_kept_slots_go_to_the_operators_members():
    """The last slot is kept: a stranger is refused, the operator's member gets it."""
    _, said = play(
        house(num_kept=1),
        Ask(0, "one", "a"),
        Ask(0, "two", "b"),
        Ask(0, "tri", "c", operator=True),
    )

    assert [type(action) for action in said] == [Grant, Refuse, Grant]
    assert "1 kept for the operator" in said[1].what


@pytest.mark.parametrize("slot", [-1, 2, 10**9])
def test_a_slot_that_does_not_exist_is_not_leased(slot):
    """Every event that names a slot is refused for one that is not there."""
    events = (
        Renew(0, "ana", slot, 1, 1),
        Arrive(0, "ana", slot, 1, advanced=True),
        GiveBack("ana", slot, 1),
        Commit("ana", slot, 1),
        Withdraw("ana", slot, 1),
        Reject(slot, 1),
    )

    _, said = play(house(), *events)

    assert {type(action) for action in said} == {Refuse}


def filled(*history) -> list:
    """Ana leases and fills the one slot, then ``history``; return what is said to that."""
    _, said = play(house(1), Ask(0, "ana", "a"), Commit("ana", 0, 1), *history)
    return said[2:]


def test_a_contribution_in_no_release_frees_its_slot_at_once():
    """Withdrawn by its client or rejected by the operator: the next asker gets the slot."""
    withdrawn = filled(Withdraw("ana", 0, 1), Ask(1, "ben", "b"))
    rejected = filled(Reject(0, 1), Ask(1, "ben", "b"))

    assert withdrawn == rejected == [Free(0), Grant(0, 2)]


def test_a_released_contribution_keeps_its_slot_until_a_release_without_it():
    """I5: emptying while the newest release holds it; free when the next one leaves it out."""
    said = filled(
        Draw(frozenset({0})),
        Publish(),
        Withdraw("ana", 0, 1),
        Ask(1, "ben", "b"),
        Draw(frozenset()),
        Ask(2, "ben", "b"),
        Publish(),
        Ask(3, "ben", "b"),
    )

    assert said[:3] == [(), (), Empty(0)]
    assert [said[3].code, said[5].code] == ["no-free-slot", "no-free-slot"]
    assert said[6:] == [Free(0), Grant(0, 2)]


def test_what_an_open_plan_holds_is_not_freed_before_it_is_out_of_a_release():
    """Planned, withdrawn, published with it, planned and published without it: only then free."""
    said = filled(
        Draw(frozenset({0})),
        Withdraw("ana", 0, 1),
        Publish(),
        Ask(1, "ben", "b"),
        Draw(frozenset()),
        Publish(),
    )

    assert said[1] == Empty(0)
    assert said[3].code == "no-free-slot"
    assert said[-1] == Free(0)


def test_only_its_client_withdraws_and_only_once():
    """Another client, an older fence, a second time: refused, and nothing changes."""
    said = filled(
        Withdraw("ben", 0, 1), Withdraw("ana", 0, 0), Withdraw("ana", 0, 1), Withdraw("ana", 0, 1)
    )

    assert [type(action) for action in said] == [Refuse, Refuse, Free, Refuse]


def test_one_plan_at_a_time_and_only_of_what_fills_its_slot():
    """A second plan, a plan of an empty slot, and publishing without a plan are refused."""
    said = filled(Publish(), Draw(frozenset({0})), Draw(frozenset({0})))
    _, empty = play(house(1), Draw(frozenset({0})))

    assert said[0].code == said[2].code == empty[0].code == "plan-differs"
