"""Tells how far each concept of a home is: what is saved here, and what the coordinator says.

The saved state is always shown; the coordinator is asked only when nobody else uses the home (a
running training owns the outbox) and when it answers at once. Asking is a message like any other
and goes through the outbox. Nothing is changed.
"""

import contextlib
from typing import TypedDict

from ..core.errors import InputError, OrthoFedError
from ..core.keys import derive_client
from ..proto import methods, wire
from .channel import Channel
from .home import Home, Membership
from .outbox import Outbox
from .session import Session
from .state import load

_PATIENCE_S = 2.0


class ConceptStatus(TypedDict):
    """One concept: its session here, and the coordinator's word, empty if it was not asked."""

    concept: str
    phase: str
    slot: int
    fence: int
    triggers: list[str]
    receipt: str
    state: str
    why: str


class HomeStatus(TypedDict):
    """One home: its federation and its concepts, by name."""

    address: str
    fed: str
    log: str
    concepts: list[ConceptStatus]


def status_of(home: Home) -> HomeStatus:
    """Return the status of ``home``.

    Raises InputError: it belongs to no federation, or a saved state is damaged.
    """
    membership = home.membership()
    sessions = [session for folder in home.runs() if (session := load(folder)) is not None]
    leased = [session for session in sessions if session.slot >= 0]
    said = _ask(home, membership, leased) if leased else {}
    return HomeStatus(
        address=membership.host_port,
        fed=membership.fed,
        log=membership.log,
        concepts=[_row(session, *said.get(session.concept, ("", ""))) for session in sessions],
    )


def _row(session: Session, state: str, why: str) -> ConceptStatus:
    return ConceptStatus(
        concept=session.concept,
        phase=session.phase,
        slot=session.slot,
        fence=session.fence,
        triggers=list(session.triggers),
        receipt=session.receipt,
        state=state,
        why=why or session.why,
    )


def _ask(home: Home, membership: Membership, sessions: list[Session]) -> dict[str, tuple[str, str]]:
    """Return what the coordinator says of each session, as far as it says anything."""
    said: dict[str, tuple[str, str]] = {}
    with contextlib.suppress(InputError), home.lock():
        outbox = Outbox(home.folder / "outbox.jsonl")
        with Channel(
            membership.host_port,
            ca=membership.ca,
            log=membership.log,
            outbox=outbox,
            patience_s=_PATIENCE_S,
        ) as channel:
            for session in sessions:
                key = derive_client(home.master(), membership.log, session.counter)
                request = wire.StatusRequest(session.slot, session.fence)
                try:
                    reply = channel.call(methods.STATUS, request, wire.StatusReply, key=key)
                except OrthoFedError as error:
                    return said | {session.concept: ("unknown", error.what)}
                said[session.concept] = (reply.state, reply.why)
    return said
