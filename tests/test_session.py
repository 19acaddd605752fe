"""The client's session as a state machine: transcripts of what it asks for, and its laws."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from orthofed.client.session import (
    Approved,
    Asked,
    AskLease,
    Done,
    Event,
    ForgetTraining,
    Granted,
    LeaseGone,
    Left,
    Opened,
    Pack,
    Packed,
    Received,
    Rejected,
    SendWithdrawal,
    Session,
    SetAside,
    ShowEgress,
    Stop,
    Train,
    Trained,
    Upload,
    step,
)

NEW = Session("anna-k7", ("anna-k7",), (2,), "person", "aa" * 16, 0)
GRANTED = Granted(slot=3, fence=7, ttl_s=900, hold_s=86_400)
STORY: tuple[Event, ...] = (
    Opened(),
    GRANTED,
    Trained(),
    Packed("b" * 64, "d" * 64),
    Approved(),
    Received("r" * 64),
)
GONE = LeaseGone("somebody else holds it", "bb" * 16, 1, 2)


def test_the_way_from_joined_to_receipted() -> None:
    """Each event asks for exactly the next thing."""
    asked, session = [], NEW
    for event in STORY:
        session, actions = step(session, event)
        asked.append(actions)

    assert asked == [
        (AskLease(),),
        (Train(),),
        (Pack(),),
        (ShowEgress(),),
        (Upload(),),
        (ForgetTraining(), Done()),
    ]
    assert session.phase == "receipted"
    assert (session.slot, session.fence, session.receipt) == (3, 7, "r" * 64)


def test_a_restart_in_any_phase_asks_for_the_same_thing_again() -> None:
    """Opened changes nothing: a kill between an action and its save costs only the action."""
    session = NEW
    for event in STORY:
        session, actions = step(session, event)

        again, repeated = step(session, Opened())

        assert (again, repeated) == (session, actions)


def test_a_lost_lease_starts_over_with_a_request_and_a_key_of_its_own() -> None:
    """In every phase between lease and receipt; the work is set aside, the owner is told."""
    session = NEW
    for event in STORY[:-1]:
        session, _ = step(session, event)
        if session.phase == "joined":
            continue

        lost, actions = step(session, GONE)

        assert lost == replace(
            NEW, request="bb" * 16, counter=1, epoch=2, why="somebody else holds it"
        )
        assert actions == (SetAside(3, 7), Stop())


def test_a_receipt_cannot_be_lost_any_more() -> None:
    """After the receipt a late word about the lease changes nothing."""
    session = NEW
    for event in STORY:
        session, _ = step(session, event)

    assert step(session, GONE) == (session, ())


def test_refused_bytes_are_trained_anew_in_the_same_slot() -> None:
    """The lease is still ours: only blob and manifest are dead, and they are never sent again."""
    session = NEW
    for event in STORY[:-1]:
        session, _ = step(session, event)

    again, actions = step(session, Rejected("norm too large"))

    assert actions == (SetAside(3, 7), Stop())
    assert (again.phase, again.slot, again.fence) == ("leased", 3, 7)
    assert again.blob == again.document == ""
    assert step(again, Opened())[1] == (Train(),)


def test_a_withdrawal_is_sent_from_the_receipt_on_and_once_it_is_kept_again() -> None:
    """Asked before the receipt changes nothing; after it the word is sent until it is confirmed."""
    session = NEW
    for event in STORY:
        assert step(session, Asked("w" * 64)) == (session, ())
        session, _ = step(session, event)

    asked, sends = step(session, Asked("w" * 64))
    left, rest = step(asked, Left("p" * 64))

    assert (asked.phase, asked.withdrawal, sends) == ("withdrawing", "w" * 64, (SendWithdrawal(),))
    assert (left.phase, left.withdrawal_receipt, rest) == ("withdrawn", "p" * 64, ())
    assert step(left, Asked("x" * 64)) == (left, ())
    assert step(left, Opened())[1] == (SendWithdrawal(),)
    assert step(session, Left("p" * 64)) == (session, ())


EVENTS = st.sampled_from(
    [
        *STORY,
        GONE,
        Rejected("no"),
        Asked("w" * 64),
        Left("p" * 64),
        Packed("e" * 64, "f" * 64),
        replace(GRANTED, slot=5),
    ]
)


@settings(derandomize=True, deadline=None)
@given(st.lists(EVENTS, max_size=30))
def test_nothing_is_uploaded_that_was_not_shown_and_approved(events: list[Event]) -> None:
    """Whatever happens in whatever order: what is sent is what was last packed and approved."""
    session, approved, fences = NEW, "", [0]
    for event in events:
        before = session
        session, actions = step(session, event)
        if isinstance(event, Approved) and before.phase == "packed":
            approved = before.blob
        if Upload() in actions:
            assert session.blob == approved != ""
        if before.phase in ("packed", "approved") and session.phase not in ("joined", "leased"):
            assert (session.blob, session.document) == (before.blob, before.document)
        fences.append(session.fence)
    assert session.phase != "joined" or session.blob == session.receipt == ""
