"""Checks a database against its own ledger: every leaf, root, signature, receipt and row.

Laws: the ledger is signed, so what follows from it is known; every row that says something else is
named (I1 to I7). It reads, and changes nothing. What follows from no leaf cannot be checked here:
an invite's uses and end, who is an operator, seconds held, the day of a lease, admission's sentence
and figures, the norms of the base; the sum of a closed database covers those (scrub.py). Cost: one
pass over the rows, a signature a document. Source: reliability.md 2.7 and 3.
"""

import itertools
import sqlite3
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager

from ..core import names
from ..core.canonical import decode, encode
from ..core.checkpoint import Checkpoint, open_checkpoint
from ..core.contribution import ContributionManifest
from ..core.document import Document, from_value, parse
from ..core.errors import OrthoFedError
from ..core.keyring import Keyring, ledger_key_at, log_id
from ..core.layout import ContributionLayout
from ..core.leaf import parse_leaf
from ..core.member_rotation import MemberRotation
from ..core.merkle import Peaks, leaf_hash
from ..core.receipt import verify_receipt
from ..core.release import ReleaseManifest
from ..core.sealed import blob_bytes
from ..core.share import Share
from ..core.spec import FederationSpec
from ..core.standing import standings
from ..core.withdrawal import Withdrawal
from . import (
    contribution_rows,
    keyring_proofs,
    lease_rows,
    ledger,
    members,
    meta_rows,
    migrations,
    name_rows,
    publications,
    upload_rows,
)
from .lease_rows import Lease
from .ordercheck import check_orders
from .release_planning import check_plan
from .rotation import check_follows
from .slotcheck import check_slots

Db = sqlite3.Connection


def check_rows(db: Db) -> Iterator[str]:
    """Yield what is wrong with the database, in words; nothing for a sound one."""
    try:
        structure = [*_structure(db)]
        yield from structure
        if not structure:
            with _in_this_format(db) as today:
                yield from _Check(today).all()
    except (OrthoFedError, sqlite3.Error, ValueError, TypeError, KeyError) as error:
        told = (
            error.what if isinstance(error, OrthoFedError) else f"{type(error).__name__}: {error}"
        )
        yield f"cannot be read as a coordinator's database: {told}"


@contextmanager
def _in_this_format(db: Db) -> Iterator[Db]:
    """Yield the database, or a copy that was brought to this version's format.

    A backup of an earlier version is checked before anything opens it, and must not be changed.
    """
    if migrations.found_format(db)[1] == migrations.FORMAT:
        yield db
        return
    with closing(sqlite3.connect("", isolation_level=None)) as copy:  # a file SQLite removes itself
        db.backup(copy)
        migrations.migrate(copy)
        yield copy


def _structure(db: Db) -> Iterator[str]:
    for row in db.execute("PRAGMA integrity_check(20)"):
        if row[0] != "ok":
            yield f"integrity check: {row[0]}"
    for table, rowid, parent, _ in db.execute("PRAGMA foreign_key_check"):
        yield f"{table} row {rowid} names no row of {parent}"
    application, number = migrations.found_format(db)
    known = application == migrations.APPLICATION_ID and 0 < number <= migrations.FORMAT
    if not known or migrations.schema(db) != migrations.schema_of(number):
        yield f"its tables are not those of format {number}"


class _Check:
    """One pass over one database."""

    def __init__(self, db: Db) -> None:
        self._db = db
        self._spec = FederationSpec.from_bytes(meta_rows.value(db, "spec"))
        self._keyrings = meta_rows.keyrings(db)
        self._rings = [parse(data, kind="keyring") for data in self._keyrings]
        self._bodies = [Keyring.from_body(document.body) for document in self._rings]
        self._places: list[int] = []  # of the keyrings, as far as the leaves were read
        self._log = meta_rows.value(db, "log").decode()
        self._leases = {(lease.slot, lease.fence): lease for lease in lease_rows.every(db)}
        self._kinds = Counter[str]()
        self._said: list[tuple[int, dict[str, object]]] = []
        self._fences = Counter[int]()

    def all(self) -> Iterator[str]:
        yield from self._founding()
        yield from self._leaves()
        yield from self._keyring_proofs()
        yield from self._counts()
        yield from self._standings()
        yield from check_slots(self._db, self._spec, self._leases, self._fences)
        yield from self._names()
        yield from self._rotations()
        yield from self._open_uploads()
        yield from self._plan()
        yield from check_orders(self._db)

    def _founding(self) -> Iterator[str]:
        for document in self._rings:
            ring = Keyring.from_body(document.body)
            document.verify(ring.root, need=ring.need)
        for before, document in itertools.pairwise(self._rings):
            check_follows(document, Keyring.from_body(before.body))
        if self._log != log_id(self._spec.id, self._rings[0].id):
            yield "the log id is not that of spec and keyring 1"

    def _leaves(self) -> Iterator[str]:
        peaks = Peaks()
        rows = self._db.execute("SELECT idx, kind, body, hash FROM leaf ORDER BY idx")
        for index, kind, body, stored in rows.fetchall():
            if index != peaks.size or leaf_hash(body) != stored:
                yield f"leaf {index} is not what its hash says, or one before it is missing"
                return
            peaks = peaks.append(stored)
            leaf = parse_leaf(body)
            if leaf["kind"] != kind:
                yield f"leaf {index} is no {kind}"
            self._kinds[kind] += 1
            self._said.append((index, leaf))
            try:
                yield from self._leaf(index, leaf, body)
            except OrthoFedError as error:
                yield f"leaf {index}, {kind}: {error.what}"
        state = ledger.head(self._db)
        if (state.size, ledger.peaks(self._db)) != (peaks.size, peaks):
            yield "the head is not that of the leaves"
        signed = open_checkpoint(state.checkpoint, self._ledger_key(peaks.size), self._log)
        if signed != Checkpoint(self._log, peaks.size, peaks.root):
            yield "the checkpoint is not that of the leaves"

    def _keyring_proofs(self) -> Iterator[str]:
        """Check what is told of the keyrings' places; what is missing a start makes."""
        for n, proof in enumerate(keyring_proofs.stored(self._db), start=2):
            found = verify_receipt(proof, log=self._log, ledger_key=self._bodies[-1].ledger)
            if n > len(self._places) or found.index != self._places[n - 1]:
                yield f"the proof of keyring {n} is of leaf {found.index}, another one"

    def _leaf(self, index: int, leaf: dict[str, object], body: bytes) -> Iterator[str]:
        match leaf["kind"]:
            case "spec":
                if leaf["spec"] != self._spec.id:
                    yield f"leaf {index} is of another spec"
            case "keyring":
                self._places.append(index)
                document = from_value(leaf["doc"], kind="keyring")
                if document.to_bytes() not in self._keyrings:
                    yield f"leaf {index} is a keyring that has no row"
            case "lease":
                yield from self._lease(index, leaf)
            case "contribution":
                signed = from_value(leaf["doc"], kind="contribution")
                yield from self._contribution(index, signed, body)
            case "withdrawal":
                signed = from_value(leaf["doc"], kind="withdrawal")
                yield from self._withdrawal(index, Withdrawal.from_document(signed), body)
            case "admission":
                pass  # with the others, in _standings
            case _:
                yield from self._release(index, leaf, body)

    def _receipt(self, index: int, receipt: bytes | None, body: bytes) -> Iterator[str]:
        """Check that a kept receipt is this leaf's (I4)."""
        if receipt is None:
            yield f"leaf {index} has no receipt"
            return
        found = verify_receipt(receipt, log=self._log, ledger_key=self._ledger_key(index + 1))
        if (found.index, found.leaf_body, found.checkpoint.size) != (index, body, index + 1):
            yield f"the receipt kept for leaf {index} is another one's"

    def _ledger_key(self, size: int) -> str:
        return ledger_key_at(self._bodies, self._places, size)

    def _lease(self, index: int, leaf: dict[str, object]) -> Iterator[str]:
        slot, fence = int(str(leaf["slot"])), int(str(leaf["fence"]))
        self._fences[slot] += 1
        row = self._leases.get((slot, fence))
        if fence != self._fences[slot]:  # I1
            yield f"leaf {index} grants fence {fence} of slot {slot}, due was {self._fences[slot]}"
        said = (leaf["client"], leaf["triggers"], index, leaf.get("block", -1))
        if row is None or (row.client, list(row.triggers), row.leaf, row.block) != said:
            yield f"leaf {index} is a lease whose row says something else"
        elif not self._is_own(row):
            yield f"leaf {index} is a corrective lease of what is another's"
        elif len(row.vectors) != len(row.triggers):
            yield f"the lease of leaf {index} has vectors of other triggers"

    def _is_own(self, lease: Lease) -> bool:
        """Return whether a lease is of a new concept, or of its member's own contribution."""
        if lease.replaces is None:
            return lease.joins is None or self._is_shared(lease)
        before = contribution_rows.readable(self._db, lease.replaces)
        named = None if before is None else before[0]
        if named is not None and (named.share, named.joins) != (lease.share, lease.joins):
            return False
        return named is not None and (named.slot, named.member, named.concept) == (
            lease.slot,
            lease.member,
            lease.concept,
        )

    def _is_shared(self, lease: Lease) -> bool:
        """Return whether a share lets the lease in, to the concept that its row names (T29)."""
        share = Share.from_value(decode(lease.share.encode("ascii")))
        entry = contribution_rows.of_leaf(self._db, share.leaf)
        given = contribution_rows.readable(self._db, share.leaf)
        return (
            given is not None
            and entry is not None
            and entry.first == lease.joins
            and (given[0].client, given[0].slot) == (share.client, lease.block)
            and given[0].concept == lease.concept
        )

    def _contribution(self, index: int, signed: Document, body: bytes) -> Iterator[str]:
        manifest = ContributionManifest.from_document(signed)
        pair = (manifest.slot, manifest.fence)
        entry = contribution_rows.of_leaf(self._db, index)
        upload = upload_rows.at(self._db, *pair)
        lease = self._leases.get(pair)
        if entry is None or (entry.slot, entry.fence) != pair or upload is None or lease is None:
            yield f"contribution {index} lacks its row, its upload or its lease"
            return
        said = (signed.to_bytes(), manifest.blob, manifest.bytes, manifest.client, index)
        if (upload.document, upload.blob, upload.num_bytes, upload.client, upload.leaf) != said:
            yield f"the upload of contribution {index} is another one's"
        if upload.id != bytes.fromhex(signed.id)[:16]:
            yield f"the upload of contribution {index} has another id"
        if (lease.client, lease.concept) != (manifest.client, manifest.concept):
            yield f"contribution {index} is not of its lease"
        share = "" if manifest.share is None else encode(manifest.share.value).decode("ascii")
        if (lease.share, lease.home) != (share, manifest.block):
            yield f"contribution {index} is in its concept by another share than its lease"
        replaced = manifest.replaces
        before = None if replaced is None else contribution_rows.of_leaf(self._db, replaced.leaf)
        if (lease.replaces, index if before is None else before.first) != (
            None if replaced is None else replaced.leaf,
            entry.first,
        ):
            yield f"contribution {index} is said to replace another one than its manifest says"
        layout = ContributionLayout(self._spec, lease.vectors)
        if blob_bytes(layout, private=manifest.form == "private") != manifest.bytes:
            yield f"the lease of contribution {index} has vectors of another size"
        yield from self._receipt(index, upload.receipt, body)

    def _withdrawal(self, index: int, said: Withdrawal, body: bytes) -> Iterator[str]:
        entry = contribution_rows.of_leaf(self._db, said.leaf)
        if entry is None or entry.state != "withdrawn":
            yield f"leaf {index} withdraws contribution {said.leaf}, whose row says otherwise"
        yield from self._receipt(
            index, contribution_rows.withdrawal_receipt(self._db, said.leaf), body
        )

    def _release(self, index: int, leaf: dict[str, object], body: bytes) -> Iterator[str]:
        n = int(str(leaf["n"]))
        row = publications.published(self._db, n)
        if row is None or (row.leaf, row.manifest_id) != (index, leaf["manifest"]):
            yield f"leaf {index} is release {n}, whose row says otherwise"
            return
        signed = parse(row.document, kind="release")
        ring = self._bodies[bisect_left(self._places, index) - 1]  # in force when it was written
        signed.verify(ring.release)
        check_plan(ReleaseManifest.from_document(signed), row.plan)
        yield from self._included(row.plan)
        yield from self._receipt(index, row.receipt, body)

    def _included(self, plan: publications.Plan) -> Iterator[str]:
        for item in plan.included:
            manifest = self._manifest_row(item.slot, item.fence)
            lease = self._leases.get((item.slot, item.fence))
            if manifest != item.document or lease is None or lease.vectors != item.vectors:
                yield f"plan {plan.n} holds another contribution {item.leaf}"

    def _manifest_row(self, slot: int, fence: int) -> str:
        upload = upload_rows.at(self._db, slot, fence)
        return "" if upload is None else publications.document_text(upload.document)

    def _counts(self) -> Iterator[str]:
        """Count rows: one without a leaf is as wrong as a leaf without its row."""
        for kind, query in (
            ("lease", "SELECT COUNT(*) FROM lease"),
            ("contribution", "SELECT COUNT(*) FROM contribution"),
            ("contribution", "SELECT COUNT(*) FROM upload WHERE leaf IS NOT NULL"),
            ("withdrawal", "SELECT COUNT(*) FROM withdrawal"),
            ("release", "SELECT COUNT(*) FROM release WHERE state = 'published'"),
            ("keyring", "SELECT COUNT(*) FROM keyring"),
        ):
            found = self._db.execute(query).fetchone()[0]
            if found != self._kinds[kind]:
                yield f"{self._kinds[kind]} leaves of kind {kind}, {found} rows"

    def _standings(self) -> Iterator[str]:
        """Compare how each contribution stands with what the leaves say of it."""
        rows = {entry.leaf: entry.state for entry in contribution_rows.every(self._db)}
        for leaf, state in standings(self._said).items():
            if rows.get(leaf, state) != state:
                yield f"contribution {leaf} is {rows[leaf]}, the ledger has it {state}"

    def _names(self) -> Iterator[str]:
        kinds: tuple[name_rows.NameKind, ...] = ("concept", "trigger")
        known: dict[tuple[str, str], name_rows.Name] = {}
        for kind in kinds:
            for skeleton, name in name_rows.by_skeleton(self._db, kind):
                lease = self._leases.get((name.slot, name.fence))
                called = () if lease is None else (lease.concept, *lease.triggers)
                if skeleton != names.skeleton(name.name) or name.name not in called:
                    yield f"the {kind} of slot {name.slot}, fence {name.fence} is another name"
                elif lease is not None and lease.member != name.member:
                    yield f"the {kind} of slot {name.slot}, fence {name.fence} is another's"
                known[(kind, skeleton)] = name
        for lease in self._leases.values():
            wanted = [("concept", lease.concept), *(("trigger", t) for t in lease.triggers)]
            if any((kind, names.skeleton(name)) not in known for kind, name in wanted):
                yield f"a name of the lease of leaf {lease.leaf} is gone"

    def _rotations(self) -> Iterator[str]:
        """Check who replaced whom, by whose word, and that the old key has nothing left."""
        owners = {lease.member for lease in self._leases.values()}
        for row in members.rotations(self._db):
            said = MemberRotation.from_document(parse(row.document, kind="rotation"))
            if (said.log, said.old, said.new) != (self._log, row.old, row.new):
                yield f"the rotation of member {row.old[:16]} is another one's"
            if row.old in owners:
                yield f"member {row.old[:16]} was replaced, and a lease is still its own"

    def _open_uploads(self) -> Iterator[str]:
        for upload in upload_rows.uncommitted(self._db):
            signed = parse(upload.document, kind="contribution")
            manifest = ContributionManifest.from_document(signed)
            said = (
                *(bytes.fromhex(signed.id)[:16], manifest.slot, manifest.fence),
                *(manifest.client, manifest.blob, manifest.bytes),
            )
            row = (upload.id, upload.slot, upload.fence, upload.client, upload.blob)
            if (*row, upload.num_bytes) != said:
                yield f"the upload of slot {upload.slot}, fence {upload.fence} is another one's"

    def _plan(self) -> Iterator[str]:
        plan = publications.planned(self._db)
        if plan is not None:
            yield from self._included(plan)
