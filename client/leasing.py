"""Asks for the slot of one concept, once all is known at home that could refuse it later.

Law: what the coordinator would find wrong in the manifest is found before a slot is taken; the
request is one number for ever, so asking again gives the same lease. Source: security.md 4.3,
reliability.md 5. Not here: keeping the lease (renewals.py), and what comes of a lost one.
"""

import contextlib
from collections.abc import Generator
from dataclasses import asdict, replace

from ..core import document
from ..core.errors import Refused, VerificationFailed
from ..core.keys import SigningKey
from ..core.overlap import overlapping
from ..proto import methods, wire
from . import session as flow
from .channel import Channel
from .correcting import Correcting
from .happened import Happened, Report
from .home import Home
from .lost_work import LostWork
from .masters import Masters
from .other_lease import other_lease_named
from .packed_contribution import PackedContribution
from .session import Session
from .share_text import ShareText
from .state import save
from .train_options import TrainOptions
from .trust import TrustedFederation
from .workbench import Workbench


class Leasing:
    """The way of one concept to its slot."""

    def __init__(  # the parts of one run, each used once
        self,
        home: Home,
        packed: PackedContribution,
        correcting: Correcting,
        options: TrainOptions,
        bench: Workbench,
        channel: Channel,
        federation: TrustedFederation,
        report: Report,
    ) -> None:
        """Keep what is asked; nothing is sent yet."""
        self._home, self._packed, self._correcting = home, packed, correcting
        self._options, self._bench = options, bench
        self._channel, self._federation, self._report = channel, federation, report

    def ask(self, session: Session, key: SigningKey) -> flow.Granted:
        """Check everything at home first, then ask for the slot with the client key ``key``.

        Raises InputError: base or images are bad. Raises Refused: no slot is free, or a
        name is taken. Raises VerificationFailed: a slot that the spec does not have.
        """
        # What the coordinator would refuse in the manifest, hours before it is signed.
        self._packed.layout(session)
        for name, values in self._bench.before_lease(session, self._home.folder):
            self._say(name, **values)
        # The newest master's, even for a client key of an older one: a rotation moved the request.
        member = Masters(self._home).newest().member(self._federation.log)
        request = self._request(session, key, member)
        other = other_lease_named(self._home, session.concept)
        refused = self._correcting.given_up_if_refused(session)
        with refused, other, self._noted_if_refused(session):
            lease = self._channel.call(methods.LEASE, request, wire.LeaseReply, key=member)
        if (lease.slot >= self._federation.spec.capacity) != (session.home >= 0):
            raise VerificationFailed(
                f"the coordinator granted slot {lease.slot} of {self._federation.spec.capacity}",
                why="the spec has no such slot",
                fix="tell the operator; nothing was trained",
                code="bad-reply",
            )
        self._say("leased", slot=lease.slot, fence=lease.fence, ttl_s=lease.ttl_s)
        if overlap := overlapping(self._federation.spec):
            self._say("overlap", **asdict(overlap))
        LostWork(self._home.run(self._options.concept)).take_back(lease.slot)
        return flow.Granted(lease.slot, lease.fence, lease.ttl_s, lease.hold_s)

    @contextlib.contextmanager
    def _noted_if_refused(self, session: Session) -> Generator[None]:
        """Keep why no slot was given, so that `client status` says it until one is."""
        try:
            yield
        except Refused as error:
            save(self._home.run(session.concept), replace(session, why=error.what))
            raise

    def _request(self, session: Session, key: SigningKey, member: SigningKey) -> wire.LeaseRequest:
        body: dict[str, object] = {
            "client": key.public_hex,
            "concept": session.concept,
            "log": self._federation.log,
            "member": member.public_hex,
            "request": session.request,
            "triggers": list(session.triggers),
            "v": 1,
        }
        signers = [key]
        if session.replaces >= 0:
            body["replaces"] = session.replaces
        elif session.share:
            given = ShareText.from_text(session.share)
            body["share"] = given.share.value
            signers.append(given.secret)
        return wire.LeaseRequest(document.sign("lease", body, signers).to_bytes(), session.vectors)

    def _say(self, name: str, **values: object) -> None:
        self._report(Happened(name, values))
