"""Tells how far each concept of a home is: what is saved here, and what the coordinator says.

The saved state is always shown; the coordinator is asked only when nobody else uses the home (a
running training owns the outbox) and when it answers at once. Asking is a message like any other
and goes through the outbox. Nothing is changed but what is remembered of the federation's keyrings.

Laws: a receipt, kept or told, counts only if the one ledger key of its size signed it (T25); it is
compared with what the coordinator has. One that it no longer honours, because it
was restored from an older copy or keeps another history, is said, never passed over: the receipt in
this home is the proof (T17, T28).
"""

import contextlib
from pathlib import Path
from typing import TypedDict

from ..core.checkpoint import open_checkpoint
from ..core.contribution import ContributionManifest
from ..core.document import parse
from ..core.errors import InputError, OrthoFedError, Refused, VerificationFailed
from ..proto import methods, wire
from .channel import Channel
from .home import Home
from .home_channel import home_channel
from .masters import Masters
from .pinned import Told, remembered
from .session import Session
from .state import MANIFEST, RECEIPT, load
from .trust import check

_PATIENCE_S = 2.0


class ConceptStatus(TypedDict):
    """One concept: its session here, and the coordinator's word, empty if it was not asked."""

    concept: str
    phase: str
    slot: int
    fence: int
    triggers: list[str]
    receipt: str
    withdrawal: str
    """SHA-256 of the receipt of its withdrawal; empty while there is none."""
    state: str
    why: str
    dp: str
    """What its manifest claims of differential privacy; empty if nothing."""
    promise: str
    """Whether the coordinator honours the receipts: kept, broken, or empty if it was not asked."""


class HomeStatus(TypedDict):
    """One home: its federation and its concepts, by name."""

    address: str
    fed: str
    log: str
    member: str
    """The public key by which the operator knows this home; empty if its file cannot be used."""
    concepts: list[ConceptStatus]


def status_of(home: Home) -> HomeStatus:
    """Return the status of ``home``.

    Raises InputError: it belongs to no federation, or a saved state is damaged.
    """
    membership = home.membership()
    sessions = [session for folder in home.runs() if (session := load(folder)) is not None]
    leased = [session for session in sessions if session.slot >= 0]
    said = _ask(home, leased) if leased else {}
    return HomeStatus(
        address=membership.host_port,
        fed=membership.fed,
        log=membership.log,
        member=_member(home, membership.log),
        concepts=[
            _row(home, session, *said.get(session.concept, _UNASKED)) for session in sessions
        ],
    )


_UNASKED = ("", "", "")


def _member(home: Home, log: str) -> str:
    with contextlib.suppress(InputError):
        return Masters(home).newest().member(log).public_hex
    return ""


def _row(home: Home, session: Session, state: str, why: str, promise: str) -> ConceptStatus:
    return ConceptStatus(
        concept=session.concept,
        phase=session.phase,
        slot=session.slot,
        fence=session.fence,
        triggers=list(session.triggers),
        receipt=session.receipt,
        withdrawal=session.withdrawal_receipt,
        state=state,
        why=why or session.why,
        dp=_claim(home.run(session.concept) / MANIFEST),
        promise=promise,
    )


def _claim(path: Path) -> str:
    """Return what the packed manifest at ``path`` says, if it is there and says anything."""
    with contextlib.suppress(OSError, VerificationFailed):
        signed = parse(path.read_bytes(), kind="contribution")
        claim = ContributionManifest.from_document(signed).dp
        return claim.said if claim is not None else ""
    return ""


def _ask(home: Home, sessions: list[Session]) -> dict[str, tuple[str, str, str]]:
    """Return what the coordinator says of each session, as far as it says anything."""
    said: dict[str, tuple[str, str, str]] = {}
    with (
        contextlib.suppress(InputError),
        home.lock(),
        home_channel(home, patience_s=_PATIENCE_S) as channel,
    ):
        told: Told | None = None
        for session in sessions:
            try:
                told = told or remembered(home, channel)
                said[session.concept] = _asked(channel, home, told, session)
            except OrthoFedError as error:
                return said | {session.concept: ("unknown", error.what, "")}
    return said


def _asked(channel: Channel, home: Home, told: Told, session: Session) -> tuple[str, str, str]:
    key = Masters(home).of(session.epoch).client(told.federation.log, session.counter)
    request = wire.StatusRequest(session.slot, session.fence)
    path = home.run(session.concept) / RECEIPT
    mine = path.read_bytes() if session.receipt and path.is_file() else b""
    try:
        reply = channel.call(methods.STATUS, request, wire.StatusReply, key=key)
    except Refused as error:
        if mine and error.code in _UNKNOWN:
            return "unknown", _broken(told, mine, path), "broken"
        raise
    try:
        for receipt in {mine, reply.receipt} - {b""}:
            with check("receipt"):
                told.federation.receipt(receipt)
    except VerificationFailed as error:
        return "unknown", f"{error.what}; tell the operator", "broken"
    if not mine:
        return reply.state, reply.why, ""
    if session.withdrawal_receipt and reply.state != "withdrawn":
        return reply.state, _forgot_withdrawal(session), "broken"
    if reply.receipt == mine:
        return reply.state, reply.why, "kept"
    return reply.state, _broken(told, mine, path), "broken"


_UNKNOWN = ("not-your-role", "not-found")
"""What a coordinator says to a client key, or a lease, that it has never seen."""


def _forgot_withdrawal(session: Session) -> str:
    return (
        f"the coordinator signed the withdrawal of {session.concept} and lost it; run"
        f" orthofed client withdraw {session.concept} again: it sends the same word"
    )


def _broken(told: Told, mine: bytes, path: Path) -> str:
    """Say what the coordinator's own checkpoint makes of a receipt that it does not honour."""
    trusted = told.federation
    receipt = trusted.receipt(mine)
    note = told.reply.checkpoint
    size = open_checkpoint(note, trusted.keyring.ledger, trusted.log).size
    if size <= receipt.index:
        what = f"its ledger ends at {size} leaves: it was restored from an older copy"
    else:
        what = f"its ledger has {size} leaves and holds something else there"
    return (
        f"the coordinator signed this contribution as leaf {receipt.index} and lost it: {what}."
        f" Tell the operator, {path} is the proof; to contribute anew, move the concept's folder"
    )
