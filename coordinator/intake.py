"""Begin, Put, Commit and Status: how bytes become a contribution (reliability.md 2.4 and 4).

Laws: one commit point. Hashing, checks and file work come first, outside any transaction; then one
transaction fills the slot, appends the leaf, signs the checkpoint and stores the receipt; the
answer leaves after COMMIT. A receipt is kept for ever (I4), so a retry gets it whenever it asks.
A contribution that breaks a rule leaves nothing behind.
"""

import contextlib
import hashlib
import json
import sqlite3

from ..core.canonical import decode, encode
from ..core.contribution import ContributionManifest, Replaced
from ..core.document import Document, parse
from ..core.errors import ContributionRejected, LeaseLost, Refused
from ..core.leaf import document_leaf
from ..core.sealed import blob_bytes, check_wraps
from ..core.share import Share
from ..fleet.journal import tell
from ..proto import wire
from ..proto.checks import cleaned
from . import (
    admission,
    contribution_rows,
    lease_rows,
    members,
    orders,
    slot_events,
    upload_rows,
    verdicts,
)
from .blobs import Plan, bitmap, num_chunks, unknown_upload
from .board import Turn
from .contribution_rows import Contribution
from .holding import hold
from .house import House
from .joining import check_uses
from .judge import Judgement, judge
from .lease_rows import Lease
from .limits import Daily
from .neighbours import Company, Voice
from .open_uploads import OpenUpload, OpenUploads
from .upload_rows import Upload

PRIVATE = "private: in no release, readable by the key holders that its owner named"
"""What a status says of an accepted contribution that the coordinator cannot read."""
_NO_WRAPS = hashlib.sha256(b"").hexdigest()
_ARRIVE_PART = 15
"""A chunk moves the deadline when a fifteenth of the term has gone: a minute of the usual 900 s."""


class Intake:
    """The calls of the service Contributions."""

    def __init__(self, house: House) -> None:
        """Act on what the house owns."""
        self._house = house
        self._open = OpenUploads()
        self._company = Company(house)
        settings = house.settings
        self._uploads = Daily(settings.uploads_a_day, unit="uploads announced")
        self._bytes = Daily(settings.upload_mib_a_day << 20, unit="bytes sent")

    def begin(self, key: str, request: wire.BeginRequest) -> wire.BeginReply:
        """Check the signed manifest against the lease and say which chunks are there."""
        signed = parse(request.document, kind="contribution")
        manifest = ContributionManifest.from_document(signed)
        document_leaf(signed)  # raises when it would not fit into the ledger
        upload = Upload(
            id=bytes.fromhex(signed.id)[:16],
            slot=manifest.slot,
            fence=manifest.fence,
            client=manifest.client,
            document=request.document,
            chunks=request.chunks,
            blob=manifest.blob,
            num_bytes=manifest.bytes,
        )
        self._check_manifest(key, manifest, request)
        # Not synced: who had the power cut under an upload begins it again (ADR 0024).
        stored, replaced = self._house.board.run(
            lambda turn: self._announce(turn, upload), synced=False
        )
        if replaced is not None:
            self._forget(replaced)
        if stored.receipt is not None:
            whole = bitmap(bytearray(b"\1" * len(stored.chunks)))
            return wire.BeginReply(upload_id=stored.id, have=whole, receipt=stored.receipt)
        plan = _plan(stored)
        if request.wraps:
            self._house.blobs.keep_wraps(plan, request.wraps, stored.wraps)
        have = self._house.blobs.begin(plan)
        tell("upload-begun", slot=stored.slot, fence=stored.fence, bytes=stored.num_bytes)
        self._open.keep(OpenUpload(stored.client, stored.slot, stored.fence, plan))
        return wire.BeginReply(upload_id=stored.id, have=have, receipt=b"")

    def put(self, key: str, request: wire.PutRequest) -> wire.PutReply:
        """Take one chunk; it is received, not durable."""
        house = self._house
        self._bytes.take(key, len(request.data), house.clock.wall_s())
        upload = self._opened(key, request.upload_id)
        if isinstance(upload, int):
            return wire.PutReply(num_whole=upload)
        plan = upload.plan
        if request.index >= len(plan.chunks) or len(request.data) != plan.length(request.index):
            raise wire.malformed(f"chunk {request.index} of {len(request.data)} bytes")
        num_whole, advanced = house.blobs.put(plan, request.index, request.data)
        if advanced:
            self._arrive(upload)
        return wire.PutReply(num_whole=num_whole)

    def commit(self, key: str, request: wire.CommitRequest) -> wire.CommitReply:
        """Make the contribution durable and give its receipt, or name the missing chunks."""
        upload = self._upload(key, request.upload_id)
        if upload.receipt is not None:
            return wire.CommitReply(receipt=upload.receipt)
        self._house.board.check_held(key, upload.slot, upload.fence)
        plan = _plan(upload)
        if missing := self._house.blobs.missing(plan):
            return wire.CommitReply(missing=missing)
        judgement, voice = self._admit(upload, plan)
        leaf, receipt = self._house.board.run(lambda turn: self._write(turn, upload, judgement))
        if voice is not None:
            self._company.keep(leaf, voice)
        self._forget(upload.id)
        self._house.heads.poke()
        state = judgement.verdict
        tell("contribution-kept", slot=upload.slot, fence=upload.fence, leaf=leaf, state=state)
        return wire.CommitReply(receipt=receipt)

    def status(self, key: str, request: wire.StatusRequest) -> wire.StatusReply:
        """Tell what the caller's lease has come to."""

        def look(turn: Turn) -> wire.StatusReply:
            lease = lease_rows.of_client(turn.db, key)
            if lease is None:
                raise _not_found()
            if request.fence and (lease.slot, lease.fence) != (request.slot, request.fence):
                raise _not_found()
            return _status(turn, lease)

        return self._house.board.run(look)

    def _check_manifest(
        self, key: str, manifest: ContributionManifest, request: wire.BeginRequest
    ) -> None:
        """Refuse a manifest that does not fit caller, federation, lease and layout."""
        lease, replaces, counted = self._house.store.run(lambda db: _expected(db, key))
        facts = self._house.facts
        share = "" if manifest.share is None else encode(manifest.share.value).decode("ascii")
        wrong = [
            name
            for name, said, expected in (
                ("client", manifest.client, key),
                ("log", manifest.log, facts.log),
                ("fed", manifest.fed, facts.fed),
                ("slot", manifest.slot, lease.slot),
                ("fence", manifest.fence, lease.fence),
                ("concept", manifest.concept, lease.concept),
                ("triggers", manifest.triggers, lease.triggers),
                ("replaces", manifest.replaces, replaces),
                ("share", share, lease.share),
                ("images", counted in (None, manifest.count > 0), True),
            )
            if said != expected
        ]
        if wrong:
            raise _rejected(f"a manifest whose {wrong[0]} is not the lease's", "manifest-differs")
        private = manifest.form == "private"
        if private:
            check_wraps(request.wraps)
        if hashlib.sha256(request.wraps).hexdigest() != (manifest.wraps or _NO_WRAPS):
            raise _rejected("wraps that are not those of the manifest", "wraps-differ")
        size = blob_bytes(self._house.layout(lease.vectors), private=private)
        if manifest.bytes != size:
            raise _rejected(f"a blob of {manifest.bytes} bytes, the lease's has {size}", "bad-size")
        if len(request.chunks) != num_chunks(size):
            raise wire.malformed(f"{len(request.chunks)} chunk hashes for {size} bytes")
        if manifest.basis != self._house.fingerprint(lease.home):  # T11
            raise _rejected("a block fingerprint that is not this slot's", "wrong-block")

    def _upload(self, key: str, upload_id: bytes) -> Upload:
        found = self._house.store.run(lambda db: upload_rows.of_client(db, upload_id, key))
        if found is None:  # T20: absent and forbidden look alike, and take the same time
            raise unknown_upload()
        return found

    def _opened(self, key: str, upload_id: bytes) -> OpenUpload | int:
        """Return the caller's open upload, its lease still held; its number of chunks when done.

        One look at memory for most chunks: 1,000 uploads of 16 chunks are 16,000 of them.
        """
        found = self._open.get(upload_id)
        if found is not None and found.client == key:
            with contextlib.suppress(LeaseLost):
                self._house.board.check_held(key, found.slot, found.fence)
                return found
        stored = self._upload(key, upload_id)
        if stored.receipt is not None:
            return len(stored.chunks)
        self._house.board.check_held(key, stored.slot, stored.fence)
        opened = OpenUpload(stored.client, stored.slot, stored.fence, _plan(stored))
        self._open.keep(opened)
        return opened

    def _arrive(self, upload: OpenUpload) -> None:
        """Move the deadline for a new chunk, seldom: a step copies all slots.

        The lease ends 14/15 of a term after its last new chunk, or later.
        """
        now_s = self._house.clock.monotonic_s()
        state = self._house.board.state
        gone_s = now_s + state.ttl_s - state.slots[upload.slot].deadline_s
        if gone_s * _ARRIVE_PART >= state.ttl_s:
            client, slot, fence = upload.client, upload.slot, upload.fence
            self._house.board.keep(
                lambda now_s: slot_events.Arrive(now_s, client, slot, fence, advanced=True)
            )

    def _forget(self, upload_id: bytes) -> None:
        self._open.forget(upload_id)
        self._house.blobs.drop(upload_id)

    def _admit(self, upload: Upload, plan: Plan) -> tuple[Judgement, Voice | None]:
        """Check the bytes and put them among the blobs; a broken rule leaves nothing behind."""
        house = self._house
        lease, is_first = house.store.run(lambda db: _owner(db, upload.client))
        layout, policy = house.layout(lease.vectors), house.settings.admission
        sizes = voice = None
        if upload.wraps and not house.blobs.has(upload.wraps):
            raise unknown_upload()  # the lease was over for a while, and they were swept away
        try:
            with house.blobs.part_file(plan) as path:
                if upload.wraps:
                    admission.check_sealed(path, upload.num_bytes, sha256=upload.blob)
                else:
                    sizes = admission.check_blob(
                        path, layout, sha256=upload.blob, norms=house.facts.norms, policy=policy
                    )
                    voice = Voice.read(path, layout, lease)
                house.blobs.keep(plan, upload.blob)
        except ContributionRejected as error:
            code = error.code
            tell("contribution-refused", slot=upload.slot, fence=upload.fence, code=code)
            house.store.run(lambda db: upload_rows.drop(db, upload.id))
            self._forget(upload.id)
            raise
        if (
            sizes is None or voice is None
        ):  # in no release: whoever can open it judges it before merging
            return Judgement({}), None
        others = self._company.neighbours(voice, besides=_own_concept(house, lease))
        usual = [layers for _, layers in house.store.run(contribution_rows.accepted_layers)]
        return judge(sizes, others, policy, usual=usual, is_first=is_first), voice

    def _announce(self, turn: Turn, new: Upload) -> tuple[Upload, bytes | None]:
        """Return the stored upload, and the id of one that it replaces."""
        stored = upload_rows.of_id(turn.db, new.id)
        if stored is not None and stored.receipt is not None:
            return stored, None
        turn.check_held(new.client, new.slot, new.fence)
        if stored is not None and stored.chunks == new.chunks:
            return stored, None
        self._uploads.take(new.client, 1, self._house.clock.wall_s())
        return new, upload_rows.put(turn.db, new)

    def _write(self, turn: Turn, upload: Upload, judgement: Judgement) -> tuple[int, bytes]:
        """Fill the slot, append the leaf, keep the receipt: the single commit point."""
        stored = upload_rows.of_id(turn.db, upload.id)
        if stored is None:
            raise unknown_upload()  # replaced meanwhile by another manifest
        if stored.receipt is not None and stored.leaf is not None:
            return stored.leaf, stored.receipt
        lease, _ = _owner(turn.db, upload.client)
        if lease.share and lease.replaces is None:
            check_uses(turn.db, Share.from_value(decode(lease.share.encode("ascii"))))
        turn.step(slot_events.Commit(upload.client, upload.slot, upload.fence))
        signed: Document = parse(upload.document, kind="contribution")
        leaf = self._house.ledger.append(turn.db, document_leaf(signed))
        figures = json.dumps(judgement.figures)
        why = PRIVATE if upload.wraps else ""
        first = _first(turn.db, lease) or leaf.index
        place = (leaf.index, upload.slot, upload.fence)
        contribution_rows.add(turn.db, Contribution(*place, "accepted", why, figures, first))
        upload_rows.finish(turn.db, upload.id, leaf=leaf.index, receipt=leaf.receipt)
        orders.carry_out(turn.db, lease.member, "train", lease.concept, leaf=leaf.index)
        if judgement.verdict != "accepted":
            said, code, why = judgement.verdict, judgement.code, judgement.why
            verdicts.say(turn, self._house, leaf.index, said, code=code, why=why)
        else:
            hold(turn, first)
        return leaf.index, leaf.receipt


def _status(turn: Turn, lease: Lease) -> wire.StatusReply:
    entry = contribution_rows.at(turn.db, lease.slot, lease.fence)
    if entry is not None:
        upload = upload_rows.at(turn.db, lease.slot, lease.fence)
        receipt = b"" if upload is None or upload.receipt is None else upload.receipt
        return wire.StatusReply(
            entry.state, why=cleaned(entry.why), leaf=entry.leaf, receipt=receipt
        )
    try:
        turn.check_held(lease.client, lease.slot, lease.fence)
    except LeaseLost as error:
        out = members.revocation(turn.db, lease.member)
        told = error.what if out is None else out.told
        return wire.StatusReply("lost", why=cleaned(told))
    return wire.StatusReply("leased")


def _expected(db: sqlite3.Connection, client: str) -> tuple[Lease, Replaced | None, bool | None]:
    """Return the lease of a client, and what its manifest has to say that it replaces.

    And whether it has to count its images: as the one that it replaces does, None for either.
    """
    lease = lease_rows.of_client(db, client)
    if lease is None:
        raise AssertionError("the gate lets clients in")
    if lease.replaces is None:
        return lease, None, None
    before = contribution_rows.readable(db, lease.replaces)
    if before is None:
        raise AssertionError("a corrective lease is of a contribution")
    counted = "count" in parse(before[1].document, kind="contribution").body
    return lease, Replaced(lease.replaces, before[0].client), counted


def _first(db: sqlite3.Connection, lease: Lease) -> int:
    """Return the first contribution of a corrective lease's concept, 0 for another lease."""
    before = None if lease.replaces is None else contribution_rows.of_leaf(db, lease.replaces)
    return 0 if before is None else before.first


def _own_concept(house: House, lease: Lease) -> int:
    return lease.joins or house.store.run(lambda db: _first(db, lease))


def _owner(db: sqlite3.Connection, client: str) -> tuple[Lease, bool]:
    """Return the lease of an upload's client, and whether its member has nothing accepted yet."""
    lease = lease_rows.of_client(db, client)
    if lease is None:
        raise AssertionError("an upload has a lease")
    return lease, contribution_rows.num_accepted(db, lease.member) == 0


def _plan(upload: Upload) -> Plan:
    return Plan(upload.id, upload.num_bytes, upload.chunks)


def _rejected(what: str, code: str) -> ContributionRejected:
    return ContributionRejected(
        what,
        why="a contribution is for one slot of one federation, at one fence",
        fix="pack the contribution again for the lease that you hold",
        code=code,
    )


def _not_found() -> Refused:
    return Refused(
        "there is no such lease of this key",
        why="a client key sees its own lease only",
        fix="ask with the key, slot and fence of the lease",
        code="not-found",
    )
