"""What the operator can ask of a coordinator: invites, the link, a status, and all else by name.

Law: the desk never reads the release key and never builds files, which the command ``release`` does
in its own process (reliability.md 2.5). Whoever holds the
folder's lock runs the desk; commands reach a running one over the control socket (control.py).
"""

import secrets
from typing import TYPE_CHECKING, Any

from ..core.address import FederationAddress
from ..core.errors import InputError
from ..core.invite import Invite
from ..core.keys import SigningKey
from ..core.kinds import DERIVED
from . import member_rows
from .counts import counts
from .evidence_taken import keep as keep_evidence
from .house import House
from .invites import listed_invites
from .listing import listed
from .logins import Logins
from .measured import take as take_measured
from .measured import to_measure
from .order_desk import Wish, cancel, give, listed_orders
from .release_planning import Planning
from .removal import Removal
from .retention import table
from .revocation import Terms, listed_members, revoke
from .rotation import install
from .running_leases import running_leases
from .score_all import score_all
from .shared_round import begin_round
from .snapshot import take
from .tls import authority_der
from .verdicts import approve

if TYPE_CHECKING:
    from collections.abc import Callable

_DAY_S = 86_400
_MOST_USES = 10_000
_MOST_DAYS = 365


class Desk:
    """Does what the operator asks, inside the process that owns the folder."""

    def __init__(self, house: House, logins: Logins | None = None) -> None:
        """Act on what the house owns; ``logins`` let people in to its page, if it has one."""
        self._house = house
        self._logins = logins or Logins(house.clock)

    def ask(self, op: str, args: dict[str, Any]) -> dict[str, Any]:
        """Do one thing by name; raises OrthoFedError."""
        acts: dict[str, Callable[[], dict[str, Any]]] = {
            "invite": lambda: self.invite(
                int(args["uses"]), int(args["days"]), bool(args["operator"])
            ),
            "keyring": lambda: {"document": self._house.facts.keyrings[-1].decode("ascii")},
            "keyring-install": lambda: {"n": install(self._house, str(args["document"]).encode())},
            "invites": lambda: {"invites": self._house.store.run(listed_invites)},
            "link": lambda: {"link": self.link()},
            "login-link": lambda: self._logins.link(str(args["who"])),
            "status": self.status,
            "contributions": lambda: {"contributions": self._house.store.run(listed)},
            "approve": lambda: {"was": approve(self._house, int(args["leaf"]))},
            "reject": lambda: self._reject(int(args["leaf"]), str(args["why"])),
            "members": lambda: {"members": listed_members(self._house)},
            "revoke": lambda: revoke(
                self._house,
                str(args["member"]),
                Terms(
                    why=str(args["why"]),
                    reject=bool(args["reject"]),
                    close_invite=bool(args["close_invite"]),
                ),
            ),
            "order": lambda: give(
                self._house,
                Wish(
                    kind=args["kind"],
                    member=str(args["member"]),
                    concept=str(args["concept"]),
                    release=int(args["release"]),
                    days=int(args["days"]),
                ),
            ),
            "score-all": lambda: score_all(self._house, days=int(args["days"])),
            "round": lambda: {
                "orders": begin_round(self._house, str(args["concept"]), days=int(args["days"]))
            },
            "orders": lambda: {"orders": listed_orders(self._house)},
            "cancel-order": lambda: cancel(self._house, str(args["id"])),
            "retention": lambda: table(
                self._house, int(args["release"]), by_whom=bool(args.get("by_whom"))
            ),
            "to_measure": lambda: to_measure(self._house),
            "measured": lambda: take_measured(self._house, int(args["leaf"]), args),
            "evidence": lambda: keep_evidence(
                self._house, int(args["leaf"]), args["pictures"], release=int(args["release"])
            ),
            "plan": lambda: Planning(self._house).plan(
                args["lambda_1024"], derived=tuple(args.get("derived", DERIVED))
            ),
            "publish": lambda: Planning(self._house).publish(int(args["n"])),
            "snapshot": lambda: self._snapshot(str(args["name"])),
        }
        act = acts.get(op)
        if act is None:
            raise InputError(
                f"the coordinator has no {op[:40]}",
                why="command and coordinator are of different versions",
                fix="restart the coordinator with this version",
                code="unknown-operation",
            )
        return act()

    def _reject(self, leaf: int, why: str) -> dict[str, Any]:
        Removal(self._house).reject(leaf, why=why)
        return {}

    def _snapshot(self, name: str) -> dict[str, Any]:
        take(self._house, name)
        return {}

    def invite(self, uses: int, days: int, operator: bool) -> dict[str, Any]:  # noqa: FBT001  # by name over the socket
        """Make an invite; only its public key is kept (T1)."""
        if not 1 <= uses <= _MOST_USES or not 1 <= days <= _MOST_DAYS:
            raise InputError(
                f"{uses} uses for {days} days",
                why=f"an invite has 1 to {_MOST_USES} uses and lasts 1 to {_MOST_DAYS} days",
                fix="choose numbers within these bounds",
                code="bad-invite-terms",
            )
        seed = secrets.token_bytes(32)
        until = self._house.clock.wall_s() + days * _DAY_S
        key = SigningKey.from_seed(seed).public_hex
        self._house.store.run(
            lambda db: member_rows.add_invite(db, key, uses=uses, until=until, operator=operator)
        )
        facts = self._house.facts
        invite = Invite(
            addr=self._house.folder.address(),
            ca=authority_der(self._house.folder.keys),
            exp=until,
            fed=facts.fed,
            log=facts.log,
            seed=seed,
        )
        return {"invite": invite.to_text(), "uses": uses, "until": until}

    def link(self) -> str:
        """Return the federation's public address."""
        folder = self._house.folder
        ca = authority_der(folder.keys)
        return FederationAddress(folder.address(), self._house.facts.log, ca).to_text()

    def status(self) -> dict[str, Any]:
        """Return counts and the newest numbers."""
        found = counts(self._house)
        spec, folder = self._house.facts.spec, self._house.folder
        return {
            "schema": "orthofed.coordinator.status/1",
            "name": spec.name,
            "fed": spec.id,
            "log": self._house.facts.log,
            "capacity": spec.capacity,
            "disjoint_slots": spec.disjoint_slots,
            "admission": "worker" if self._house.settings.admission.worker else "gates",
            "kept_for_operator": spec.capacity * spec.limits.operator_slots_percent // 100,
            "address": folder.address(),
            "free_bytes": self._house.fs.free_bytes(folder.root),
            "slots": found.slots,
            "leases": running_leases(self._house),
            "contributions": found.contributions,
            "members": {"standing": found.standing, "revoked": found.revoked},
            "ledger_size": found.leaves,
            "newest_release": found.newest_release,
            "plan_open": found.plan_open,
        }
