"""What a release is planned to hold, and the leaf that makes a built folder a release.

Laws (reliability.md 2.5): a plan holds everything that varies, so building it twice gives the same
bytes; at most one is open; no release after a withdrawal, a rejection or a quarantine holds what
that took out: a plan that does is given up, unseen, and the last look is in the transaction that
publishes. It never reads the release key and never builds files (publisher.py). Not here: the rows
(publications.py), the operator's other calls (desk.py).
"""

import base64
import shutil
import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ..core.contribution import ContributionManifest
from ..core.document import parse
from ..core.errors import InputError, OrthoFedError, Refused, VerificationFailed
from ..core.fields import NO_ID
from ..core.kinds import DERIVED
from ..core.leaf import release_leaf
from ..core.owners import concept_weights
from ..core.release import ReleaseManifest, Why
from ..fleet.journal import tell
from . import contribution_rows, lease_rows, ledger, publications, upload_rows
from .blobs import sha256_of
from .board import Turn
from .contribution_rows import Contribution
from .house import House
from .publications import Included, Plan
from .slot_events import Discard, Draw, Publish
from .together import settle

_STANDING = ("accepted", "superseded")


class Planning:
    """Opens, gives up and publishes plans."""

    def __init__(self, house: House) -> None:
        """Act on what the house owns."""
        self._house = house

    def plan(
        self, lambda_1024: int | None, *, derived: tuple[str, ...] = DERIVED
    ) -> dict[str, Any]:
        """Return the open plan, or open one; ``new`` is False when nothing has changed.

        An open plan of which something was taken out since is given up, and one for the same lambda
        and kinds of files is opened in its place. ``derived``: the kinds that a new plan does not
        publish; other ones alone are no change.
        """
        house = self._house
        if (outdated := house.store.run(_outdated_plan)) is not None:
            for name in (f"{outdated.n}", f".{outdated.n}.tmp"):
                if (built := house.folder.releases / name).exists():
                    shutil.rmtree(built)
            house.board.run(_give_up_outdated)  # after it: a kill between leaves a plan to look at
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


def _outdated_plan(db: sqlite3.Connection) -> Plan | None:
    """Return the open plan, if something that it holds was taken out since."""
    plan = publications.planned(db)
    return None if plan is None or _taken_out(db, plan) is None else plan


def _give_up_outdated(turn: Turn) -> None:
    """Give the open plan up, if it is outdated still.

    Nobody has seen anything of it, and no release after a withdrawal holds what was withdrawn.
    """
    if (plan := _outdated_plan(turn.db)) is not None:
        turn.step(Discard())
        publications.drop_plan(turn.db, plan.n)


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
