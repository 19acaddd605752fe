"""Join, Lease, Renew and GiveBack: from an invite to a slot and its names.

Laws: an invite is spent once for each member key; the same request gives the same lease; one lease
at a time and a few a day for each member (T1), none for one that was revoked; who may take which
name is naming.py's: to replace a contribution, withdraw, then lease again, or ask for a corrective
lease: its own slot once more, for the same concept, triggers and vectors, while what the slot holds
stands accepted. Who has a share of another member's concept gets a seat beside it (joining.py).
Grant, names, lease and ledger leaf are one transaction.
"""

import sqlite3
from dataclasses import dataclass

from ..core import names
from ..core.canonical import encode
from ..core.document import Document, parse
from ..core.errors import InputError, LeaseLost, Refused
from ..core.fields import Fields
from ..core.leaf import lease_leaf
from ..core.share import Share
from ..fleet.journal import short, tell
from ..proto import wire
from . import contribution_rows, lease_rows, member_rows, members, slot_events
from .board import Turn
from .contribution_rows import Contribution
from .house import House
from .joining import joinable
from .lease_rows import Lease
from .member_rows import Member
from .naming import OwnNames, check_names, claim_names, leases_of_like_names, own_names
from .slot_events import Grant, Hold

_DAY_S = 86_400
_MOST_TRIGGERS = 8


@dataclass(frozen=True, slots=True)
class _Asked:
    """The lease document's fields."""

    client: str
    concept: str
    request: str
    triggers: tuple[str, ...]
    vectors: tuple[int, ...]
    replaces: int | None = None
    share: Share | None = None


class Enrolment:
    """The calls of the service Federation that change something."""

    def __init__(self, house: House) -> None:
        """Act on what the house owns."""
        self._house = house

    def join(self, key: str, request: wire.JoinRequest) -> wire.JoinReply:
        """Register the caller's member key by an invite's word."""
        proof = parse(request.proof, kind="join")
        fields = Fields(proof.body, "a join proof", need=("invite", "log", "member", "v"))
        fields.version()
        invite = fields.hex("invite")
        _check_signed_by(proof, invite)
        self._check_log(fields)
        if fields.hex("member") != key:
            raise _bad_invite("this invite's word is for another member key")
        now_s = self._house.clock.wall_s()

        def register(db: sqlite3.Connection) -> None:
            if member_rows.of_key(db, key) is not None:
                return  # a resend
            operator = member_rows.spend_invite(db, invite, now_s=now_s)
            if operator is None:
                raise _bad_invite("this invite is unknown, used up or expired")
            member_rows.add(db, key, invite=invite, operator=operator)

        self._house.store.run(register)
        tell("member-joined", member=short(key))
        return wire.JoinReply()

    def lease(self, key: str, request: wire.LeaseRequest) -> wire.LeaseReply:
        """Grant a slot to the document's client key, or the same one again."""
        asked = self._read_lease(key, request)
        self._house.layout(asked.vectors)  # raises for triggers and vectors out of bounds
        _check_slugs(asked)
        lease = self._house.board.run(lambda turn: self._lease(turn, key, asked))
        self._house.heads.poke()
        tell("lease-granted", **_ids(lease))
        limits = self._house.facts.spec.limits
        return wire.LeaseReply(
            slot=lease.slot, fence=lease.fence, ttl_s=limits.ttl_s, hold_s=limits.hold_s
        )

    def renew(self, key: str, request: wire.RenewRequest) -> wire.RenewReply:
        """Move the deadline when progress grew."""
        slot, fence, progress, total = request.slot, request.fence, request.progress, request.total
        match self._house.board.keep(
            lambda now_s: slot_events.Renew(now_s, key, slot, fence, progress, total)
        ):
            case (Hold() as action,):
                pass
            case _:
                raise AssertionError("a renewal holds or is refused")
        return wire.RenewReply(ttl_s=action.ttl_s, held_s=action.held_s)

    def give_back(self, key: str, request: wire.GiveBackRequest) -> wire.GiveBackReply:
        """Free the slot; a resend finds it free already."""
        event = slot_events.GiveBack(key, request.slot, request.fence)
        self._house.board.run(lambda turn: turn.step(event))
        tell("lease-given-back", slot=request.slot, fence=request.fence)
        return wire.GiveBackReply()

    def _read_lease(self, key: str, request: wire.LeaseRequest) -> _Asked:
        document = parse(request.document, kind="lease")
        wanted = ("client", "concept", "log", "member", "request", "triggers", "v")
        fields = Fields(document.body, "a lease request", need=wanted, may=("replaces", "share"))
        fields.version()
        client = fields.hex("client")
        share = Share.from_value(fields.raw("share")) if "share" in fields else None
        _check_signed_by(document, *(client, share.key) if share else (client,))
        self._check_log(fields)
        triggers = tuple(
            item if isinstance(item, str) else ""
            for item in fields.items("triggers", least=1, most=_MOST_TRIGGERS)
        )
        if fields.hex("member") != key or len(request.vectors) != len(triggers):
            raise wire.malformed("a lease request for another member, or without its vectors")
        return _Asked(
            client=client,
            concept=fields.text("concept", most=64),
            request=fields.hex("request", 32),
            triggers=triggers,
            vectors=request.vectors,
            replaces=fields.integer("replaces", 2) if "replaces" in fields else None,
            share=share,
        )

    def _check_log(self, fields: Fields) -> None:
        if fields.hex("log") != self._house.facts.log:
            raise Refused(
                "a document for another ledger",
                why="it names the ledger it is for, and this is not it",
                fix="use the invite of this federation",
                code="wrong-audience",
            )

    def _lease(self, turn: Turn, key: str, asked: _Asked) -> Lease:
        """Do the whole grant in one turn."""
        db = turn.db
        members.check_stands(db, key)
        before = lease_rows.of_request(db, key, asked.request)
        if before is not None:
            _check_same(before, asked)
            return before
        member = member_rows.of_key(db, key)
        if member is None:
            raise AssertionError("the gate lets members in")
        self._check_quota(db, member, asked)
        now_s = self._house.clock.monotonic_s()
        if asked.share is not None:
            names = (asked.concept, asked.triggers, asked.vectors)
            first = joinable(db, asked.share, key, names, log=self._house.facts.log)
            event = slot_events.Join(now_s, asked.client, key, asked.share.slot)
            return self._write(turn, key, asked, _granted(turn, event), joins=first)
        if asked.replaces is not None:
            held = _held(db, key, asked)
            event = slot_events.Revise(now_s, asked.client, key, held.slot, held.fence)
            return self._write(turn, key, asked, _granted(turn, event))
        own = own_names(db, key)
        reserved = self._house.facts.spec.reserved
        check_names(db, asked.concept, asked.triggers, own, reserved=reserved)
        event = slot_events.Ask(now_s, asked.client, key, operator=member.operator)
        granted = _granted(turn, event)
        self._leave_old(turn, own, asked)
        return self._write(turn, key, asked, granted)

    def _check_quota(self, db: sqlite3.Connection, member: Member, asked: _Asked) -> None:
        if lease_rows.of_client(db, asked.client) is not None:
            raise InputError(
                "a client key that has held a lease before",
                why="every lease has a fresh key, so that two leases cannot be linked",
                fix="derive the next client key and ask again",
                code="key-used",
            )
        limit = self._house.facts.spec.limits.leases_a_day
        if lease_rows.num_of_day(db, member.key, self._day()) >= limit:
            raise Refused(
                f"{limit} leases granted to this member today, allowed are {limit}",
                why="slots are scarce, and a lease that ends unused costs everybody",
                fix="go on with a lease you hold, or come back tomorrow",
                code="quota-used",
            )

    def _day(self) -> int:
        return self._house.clock.wall_s() // _DAY_S

    @staticmethod
    def _leave_old(turn: Turn, own: OwnNames, asked: _Asked) -> None:
        """End the member's earlier leases of names that read like these (I6).

        Late ones too: a late commit counts, and no two contributions may share a name.
        """
        for slot, fence in leases_of_like_names(own, asked.concept, asked.triggers):
            client = turn.state.slots[slot].client
            with_fence = slot_events.GiveBack(client, slot, fence)
            try:
                turn.step(with_fence)
            except LeaseLost:
                continue  # somebody else holds that slot by now

    def _write(
        self, turn: Turn, key: str, asked: _Asked, granted: Grant, *, joins: int | None = None
    ) -> Lease:
        db, slot, fence = turn.db, granted.slot, granted.fence
        block, share = -1, ""
        if asked.share is not None:
            block, share = asked.share.slot, encode(asked.share.value).decode("ascii")
        elif asked.replaces is not None and (
            before := contribution_rows.readable(db, asked.replaces)
        ):
            block, joins, share = before[0].block, before[0].joins, before[0].share
        body = lease_leaf(
            client=asked.client, fence=fence, slot=slot, triggers=asked.triggers, block=block
        )
        leaf = self._house.ledger.append(db, body)
        lease = Lease(
            member=key,
            request=asked.request,
            slot=slot,
            fence=fence,
            client=asked.client,
            concept=asked.concept,
            triggers=asked.triggers,
            vectors=asked.vectors,
            day=self._day(),
            leaf=leaf.index,
            replaces=asked.replaces,
            block=block,
            joins=joins,
            share=share,
        )
        lease_rows.add(db, lease)
        if asked.replaces is not None or asked.share is not None:
            return lease  # its names stay those of the concept's first lease, which carries them
        claim_names(db, lease)
        return lease


def _granted(turn: Turn, event: slot_events.Ask | slot_events.Revise | slot_events.Join) -> Grant:
    match turn.step(event):
        case (Grant() as granted,):
            return granted
        case _:
            raise AssertionError("an ask is granted or refused")


def _held(db: sqlite3.Connection, key: str, asked: _Asked) -> Contribution:
    """Return the caller's own contribution that a corrective lease is asked for (T2).

    Raises Refused: it is none, or another concept's, or does not stand in its slot.
    """
    found = None if asked.replaces is None else contribution_rows.readable(db, asked.replaces)
    entry = None if asked.replaces is None else contribution_rows.of_leaf(db, asked.replaces)
    if found is None or entry is None or found[0].member != key:  # T20: these look alike
        raise _not_correctable("there is no such contribution of this member")
    lease, upload = found
    if (lease.concept, lease.triggers, lease.vectors) != (
        asked.concept,
        asked.triggers,
        asked.vectors,
    ):
        raise _not_correctable("a corrective lease for other names or vectors")
    if entry.state != "accepted" or upload.wraps:
        said = "private" if upload.wraps else entry.state
        raise _not_correctable(f"contribution {entry.leaf} is {said}")
    return entry


def _not_correctable(what: str) -> Refused:
    return Refused(
        what,
        why="a corrective round goes on from a public contribution that stands accepted, under its"
        " own names",
        fix="look at orthofed client status; withdraw the concept to teach it anew",
        code="not-correctable",
    )


def _ids(lease: Lease) -> dict[str, str | int]:
    return {
        "slot": lease.slot,
        "fence": lease.fence,
        "member": short(lease.member),
        "leaf": lease.leaf,
    }


def _check_signed_by(document: Document, *keys: str) -> None:
    """Check that these keys and no other signed; raises VerificationFailed or InputError."""
    if [each.key for each in document.sigs] != sorted(set(keys)):
        raise wire.malformed(f"a {document.kind} document that is not signed by its own key alone")
    document.verify(keys, need=len(set(keys)))


def _check_slugs(asked: _Asked) -> None:
    for name in (asked.concept, *asked.triggers):
        if names.slug(name) != name:
            raise wire.malformed("a name in another spelling than its slug")


def _check_same(before: Lease, asked: _Asked) -> None:
    same = (before.client, before.concept, before.triggers, before.vectors, before.replaces)
    share = "" if asked.share is None else encode(asked.share.value).decode("ascii")
    known = before.share if before.replaces is None else ""
    if (*same, known) != (
        *(asked.client, asked.concept, asked.triggers, asked.vectors, asked.replaces),
        share,
    ):
        raise wire.malformed("a lease request with the id of another one")


def _bad_invite(what: str) -> Refused:
    return Refused(
        what,
        why="an invite lets in as many members as its operator said, for as long as they said",
        fix="ask the operator for a new invite",
        code="bad-invite",
    )
