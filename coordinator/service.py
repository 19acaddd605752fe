"""Brings each call of the wire contract to the class that does it.

Laws: a receipt leaves only after everything it speaks of is on the disk (reliability.md 2.4); every
write can be repeated, and a repeat gives the same answer; what one caller may not see looks like
what does not exist (T20). Not here: bytes and status (server.py), who may call (auth.py), what a
call does (enrolment.py, succession.py, intake.py, removal.py, order_calls.py, score_calls.py,
shelf.py, archive.py, static_tree.py).
"""

from collections.abc import Callable
from typing import Any

from ..core.errors import LeaseLost
from ..proto import methods, wire
from . import lease_rows, ledger, member_rows, members
from .archive import Archive
from .auth import Gate
from .call import Call
from .enrolment import Enrolment
from .house import House
from .intake import Intake
from .order_calls import OrderCalls
from .removal import Removal
from .score_calls import ScoreCalls
from .shelf import Shelf
from .static_tree import StaticTree
from .succession import Succession

_Act = Callable[[str, Any], Any]


class Service:
    """Answers calls; give ``answer`` to the server."""

    def __init__(self, house: House) -> None:
        """Serve what the house owns."""
        self._house = house
        store = house.store
        self._gate = Gate(
            log=house.facts.log,
            clock=house.clock,
            is_member=lambda key: store.run(lambda db: member_rows.of_key(db, key)) is not None,
            is_client=lambda key: store.run(lambda db: lease_rows.of_client(db, key)) is not None,
        )
        enrolment, intake = Enrolment(house), Intake(house)
        shelf, archive, order_calls = Shelf(house), Archive(house), OrderCalls(house)
        self._acts: dict[methods.Method, tuple[Callable[[bytes], Any], _Act]] = {
            methods.GET_SPEC: (wire.SpecRequest.from_bytes, self._get_spec),
            methods.JOIN: (wire.JoinRequest.from_bytes, enrolment.join),
            methods.LEASE: (wire.LeaseRequest.from_bytes, enrolment.lease),
            methods.ROTATE: (wire.RotateRequest.from_bytes, Succession(house).asked),
            methods.RENEW: (wire.RenewRequest.from_bytes, enrolment.renew),
            methods.GIVE_BACK: (wire.GiveBackRequest.from_bytes, enrolment.give_back),
            methods.BEGIN: (wire.BeginRequest.from_bytes, intake.begin),
            methods.PUT: (wire.PutRequest.from_bytes, intake.put),
            methods.COMMIT: (wire.CommitRequest.from_bytes, intake.commit),
            methods.STATUS: (wire.StatusRequest.from_bytes, intake.status),
            methods.WITHDRAW: (wire.WithdrawRequest.from_bytes, Removal(house).asked),
            methods.ORDERS: (wire.OrdersRequest.from_bytes, order_calls.orders),
            methods.FLEET_KEY: (wire.FleetKeyRequest.from_bytes, order_calls.fleet_key),
            methods.SCORE: (wire.ScoreRequest.from_bytes, ScoreCalls(house).score),
            methods.LIST_RELEASES: (wire.ListRequest.from_bytes, shelf.list),
            methods.GET_MANIFEST: (wire.ManifestRequest.from_bytes, shelf.manifest),
            methods.READ: (wire.ReadRequest.from_bytes, shelf.read),
            methods.GET_CONTRIBUTION: (wire.ContributionRequest.from_bytes, archive.proof),
            methods.READ_CONTRIBUTION: (wire.ReadContributionRequest.from_bytes, archive.read),
            methods.READ_PUBLIC: (wire.PublicRequest.from_bytes, StaticTree(house).read),
        }

    def answer(self, call: Call) -> bytes:
        """Return the reply's bytes; raises OrthoFedError for every refusal."""
        read, act = self._acts[call.method]
        with self._gate.open(call) as key:
            try:
                reply: bytes = act(key, read(call.body)).to_bytes()
            except LeaseLost:
                # A revoked member's leases are over; only here its client keys hear why.
                self._house.store.run(lambda db: members.check_client_stands(db, key))
                raise
            return reply

    def _get_spec(self, _key: str, _request: wire.SpecRequest) -> wire.SpecReply:
        house = self._house
        facts = house.facts  # once: a keyring may come meanwhile
        bounds = house.settings.admission.bounds(facts.spec.capacity, facts.spec.epochs)
        return wire.SpecReply(
            spec=facts.spec.to_bytes(),
            keyrings=facts.keyrings,
            checkpoint=house.store.run(ledger.head).checkpoint,
            base_hint=house.settings.base_hint,
            free_slots=house.board.state.num_free,
            norm_percent=bounds.norm_percent,
            embedding_percent=bounds.embedding_percent,
            budget_percent=bounds.budget_percent,
            keyring_proofs=facts.keyring_proofs,
        )
