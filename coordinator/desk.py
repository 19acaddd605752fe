"""What the operator can ask of a coordinator: invites, the link, a status, and a release's rows.

Law: the desk writes rows and signs ledger leaves; it never reads the release key and never builds
files, which the command ``release`` does in its own process (reliability.md 2.5). Whoever holds the
folder's lock runs the desk; commands reach a running one over the control socket (control.py).
"""

import base64
import secrets
import shutil
import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..core.address import FederationAddress
from ..core.contribution import ContributionManifest
from ..core.document import parse
from ..core.errors import InputError, OrthoFedError, Refused, VerificationFailed
from ..core.fields import NO_ID
from ..core.invite import Invite
from ..core.keys import SigningKey
from ..core.kinds import DERIVED
from ..core.leaf import release_leaf
from ..core.owners import concept_weights
from ..core.release import ReleaseManifest, Why
from ..fleet.journal import tell
from . import contribution_rows, lease_rows, ledger, member_rows, publications, upload_rows
from .blobs import sha256_of
from .board import Turn
from .contribution_rows import Contribution
from .counts import counts
from .evidence_taken import keep as keep_evidence
from .house import House
from .invites import listed_invites
from .listing import listed
from .logins import Logins
from .measured import take as take_measured
from .measured import to_measure
from .order_desk import Wish, cancel, give, listed_orders
from .publications import Included, Plan
from .removal import Removal
from .retention import table
from .revocation import Terms, listed_members, revoke
from .rotation import install
from .running_leases import running_leases
from .score_all import score_all
from .shared_round import begin_round
from .slot_events import Discard, Draw, Publish
from .snapshot import take
from .tls import authority_der
from .together import settle
from .verdicts import approve

if TYPE_CHECKING:
    from collections.abc import Callable

_DAY_S = 86_400
_MOST_USES = 10_000
_MOST_DAYS = 365
_STANDING = ("accepted", "superseded")


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
            "plan": lambda: self.plan(
                args["lambda_1024"], derived=tuple(args.get("derived", DERIVED))
            ),
            "publish": lambda: self.publish(int(args["n"])),
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

    def plan(
        self, lambda_1024: int | None, *, derived: tuple[str, ...] = DERIVED
    ) -> dict[str, Any]:
        """Return the open plan, or open one; ``new`` is False when nothing has changed.

        An open plan of which something was taken out since is given up, and one for the same lambda
        and kinds of files is opened in its place. ``derived``: the kinds that a new plan does not
        publish; other ones alone are no change.
        """
        house = self._house
        outdated = house.board.run(_give_up_outdated)
        if outdated is not None:
            shutil.rmtree(house.folder.releases / str(outdated.n), ignore_errors=True)
            house.sweep()  # withdrawn blobs that were in the plan alone
            lambda_1024, derived = outdated.lambda_1024 or lambda_1024, outdated.derived
        share = house.facts.spec.lambda_1024 if lambda_1024 is None else lambda_1024
        now_s = house.clock.wall_s()

        def open_plan(turn: Turn) -> tuple[Plan, bool]:
            db = turn.db
            before = publications.planned(db)
            if before is not None:
                return before, True
            plan = self._draw(db, share, derived, now_s)
            last = publications.newest(db)
            if last is not None and _same_content(last.plan, plan):
                return last.plan, False
            turn.step(Draw(plan.slots))
            publications.add_plan(db, plan)
            return plan, True

        if house.store.run(publications.planned) is None:
            settle(house, share)
        plan, new = house.board.run(open_plan)
        return {"plan": plan.to_bytes().decode(), "new": new}

    def publish(self, n: int) -> dict[str, Any]:
        """Check the built folder of the open plan, then write its release leaf.

        Raises Refused ``plan-outdated``: something that it holds was taken out meanwhile.
        """
        house = self._house
        plan = house.store.run(publications.planned)
        if plan is None or plan.n != n:
            raise InputError(
                f"release {n} is not planned",
                why="only the open plan can be published",
                fix="run orthofed coordinator release",
                code="not-planned",
            )
        document = (house.folder.releases / str(n) / "manifest.json").read_bytes()
        signed = parse(document, kind="release")
        signed.verify(house.facts.ring.release)
        manifest = ReleaseManifest.from_document(signed)
        check_plan(manifest, plan)
        self._check_files(manifest)

        def write(turn: Turn) -> int:
            gone = _taken_out(turn.db, plan)
            if gone is not None:
                raise _outdated(n, gone)
            turn.step(Publish())  # frees the slots that this release is the first without
            leaf = house.ledger.append(turn.db, release_leaf(manifest=signed.id, n=n))
            publications.publish(
                turn.db, n, document=document, leaf=leaf.index, receipt=leaf.receipt
            )
            return leaf.index

        leaf = house.board.run(write)
        tell("release-published", release=n, leaf=leaf)
        house.heads.write_soon()  # who is told of the release can pull it
        house.sweep()  # withdrawn blobs that were in the release before
        return {"n": n, "leaf": leaf, "manifest": signed.id}

    def _draw(
        self, db: sqlite3.Connection, share: int, derived: tuple[str, ...], now_s: int
    ) -> Plan:
        entries = contribution_rows.every(db)
        private = {upload.leaf for upload in upload_rows.committed(db) if upload.wraps}
        included = {
            entry.leaf
            for entry in entries
            if entry.state == "accepted" and entry.leaf not in private
        }
        last = publications.newest(db)
        # Sealed ones alone make a release that their readers merge from; where a release went
        # before, one without any concept is what takes the last withdrawn one out.
        if last is None and not any(entry.state == "accepted" for entry in entries):
            raise Refused(
                "there is nothing to release",
                why="no contribution is accepted yet",
                fix="wait for a contribution, see orthofed coordinator status",
                code="nothing-to-release",
            )
        left_out: list[tuple[int, Why]] = [
            (entry.leaf, "private" if entry.state == "accepted" else entry.state)
            for entry in entries
            if entry.leaf not in included
        ]
        return Plan(
            n=1 if last is None else last.n + 1,
            t=now_s,
            size=ledger.head(db).size,
            prev=NO_ID if last is None else last.manifest_id,
            fed=self._house.facts.fed,
            log=self._house.facts.log,
            included=_weighed(
                [_included(db, e, share) for e in entries if e.leaf in included], share
            ),
            left_out=tuple(left_out),
            withdrawn=tuple((e.slot, e.leaf) for e in entries if e.state == "withdrawn"),
            derived=derived,
            lambda_1024=share,
        )

    def _check_files(self, manifest: ReleaseManifest) -> None:
        """Hash every file of the built folder once more: what is published is what was signed."""
        folder = self._house.folder.releases / str(manifest.n)
        for file in manifest.files:
            path = folder / file.name
            if path.stat().st_size != file.bytes or sha256_of(path) != file.sha256:
                raise VerificationFailed(
                    f"{file.name} of release {manifest.n} is not what was signed",
                    why="its length or SHA-256 differs",
                    fix="run orthofed coordinator release again; it builds the folder anew",
                    code="file-differs",
                )


def _give_up_outdated(turn: Turn) -> Plan | None:
    """Give up the open plan if something that it holds was taken out since; return it then.

    Nobody has seen anything of it, and no release after a withdrawal holds what was withdrawn.
    """
    plan = publications.planned(turn.db)
    if plan is None or _taken_out(turn.db, plan) is None:
        return None
    turn.step(Discard())
    publications.drop_plan(turn.db, plan.n)
    return plan


def _taken_out(db: sqlite3.Connection, plan: Plan) -> int | None:
    """Return the leaf of a contribution that the plan holds and that stands no more.

    One that was replaced meanwhile can go: its concept is the same, and stands.
    """
    stand = {entry.leaf for entry in contribution_rows.every(db) if entry.state in _STANDING}
    return next((item.leaf for item in plan.included if item.leaf not in stand), None)


def _outdated(n: int, leaf: int) -> Refused:
    return Refused(
        f"contribution {leaf} was taken out while release {n} was built",
        why="its owner withdrew it, or it was rejected or put into quarantine",
        fix="run orthofed coordinator release again; it plans anew, without it",
        code="plan-outdated",
    )


def check_plan(manifest: ReleaseManifest, plan: Plan) -> None:
    """Refuse a manifest that is not of this plan."""
    said = (
        *(manifest.n, manifest.t, manifest.size, manifest.prev, manifest.fed, manifest.log),
        *(manifest.contributions, manifest.left_out),
    )
    wanted = tuple((item.leaf, item.lambda_1024) for item in plan.included)
    planned = (plan.n, plan.t, plan.size, plan.prev, plan.fed, plan.log, wanted, plan.left_out)
    if said != planned:
        raise VerificationFailed(
            f"the manifest of release {manifest.n} is not of the open plan",
            why="a plan holds everything that a release says, and this one says something else",
            fix="run orthofed coordinator release again; it builds the folder anew",
            code="plan-differs",
        )


def _included(db: sqlite3.Connection, entry: Contribution, share: int) -> Included:
    upload = upload_rows.at(db, entry.slot, entry.fence)
    if upload is None:
        raise OrthoFedError(
            f"contribution {entry.leaf} has no upload row",
            why="the database was changed by hand",
            fix="restore the database from the backup",
            code="database-damaged",
        )
    lease = lease_rows.of_client(db, upload.client)
    vectors = () if lease is None else lease.vectors
    document = publications.document_text(upload.document)
    return Included(entry.leaf, entry.slot, entry.fence, share, vectors, document)


def _weighed(items: Sequence[Included], share: int) -> tuple[Included, ...]:
    """Return the contributions, ascending by leaf, those of one concept by their images."""
    manifests = [manifest_of(item) for item in items]
    weights = concept_weights([(each.block, each.count) for each in manifests], share)
    return tuple(
        item if item.lambda_1024 == weight else replace(item, lambda_1024=weight)
        for item, weight in zip(items, weights, strict=True)
    )


def _same_content(one: Plan, other: Plan) -> bool:
    return (one.included, one.left_out) == (other.included, other.left_out)


def manifest_of(item: Included) -> ContributionManifest:
    """Return the signed manifest of one included contribution, its signature checked (T4)."""
    document = parse(base64.b64decode(item.document), kind="contribution")
    return ContributionManifest.from_document(document)
