"""Private contributions over the wire: stored, receipted and kept out by who cannot read them.

Backs: "A private slot is readable by the key holders you named."
"""

import dataclasses
import hashlib
import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from orthofed.client.sealing import open_private
from orthofed.coordinator import upload_rows
from orthofed.coordinator.backup import back_up
from orthofed.coordinator.clock import SystemClock
from orthofed.coordinator.control import ControlClient
from orthofed.coordinator.doctor import examine
from orthofed.coordinator.folder import DataFolder
from orthofed.coordinator.policy import Policy
from orthofed.core.contribution import ContributionManifest
from orthofed.core.document import parse, sign
from orthofed.core.errors import ContributionRejected, OrthoFedError, Refused, VerificationFailed
from orthofed.core.recipient import Recipient
from orthofed.core.release import ReleaseManifest
from orthofed.proto import methods, wire

from .forked import Nursery, copied
from .forked import founded as founded_small
from .member import Member, Packed, random_blob
from .memory_search import in_files, in_memory
from .private_owner import pack_private
from .serving import FastFs, founded, running

CARLA, DORA = (X25519PrivateKey.from_private_bytes(bytes([n]) * 32) for n in (1, 2))


def recipient(private: X25519PrivateKey) -> Recipient:
    return Recipient(private.public_key().public_bytes_raw())


@pytest.fixture
def own(tmp_path):
    with running(founded(tmp_path)) as coordinator:
        yield coordinator


def opened(coordinator, packed: Packed, private: X25519PrivateKey) -> bytes:
    """Open what the coordinator has stored."""
    manifest = ContributionManifest.from_document(parse(packed.document, kind="contribution"))
    blob, wraps = (
        coordinator.folder.blob(name).read_bytes() for name in (manifest.blob, manifest.wraps)
    )
    return open_private(manifest, blob, wraps, private)


def test_a_private_contribution_is_logged_and_left_out_with_its_reason(own):
    """Anna's is public, Rex's is for Carla: one ledger, a release of Anna's, Carla opens Rex's."""
    anna, rex = own.member(), own.member()
    anna.contribute(anna.pack(anna.lease("anna", ("anna-k7",))))
    lease = rex.lease("rex", ("rex-p2",))
    packed, plain = pack_private(rex, lease, [recipient(CARLA)], seed=2)

    receipt = rex.contribute(packed)
    own.release()

    reply = anna.link.call(methods.GET_MANIFEST, wire.ManifestRequest(), wire.ManifestReply)
    manifest = ReleaseManifest.from_document(parse(reply.document, kind="release"))
    leaf = rex.check(receipt)
    assert leaf.leaf["doc"] == parse(packed.document, kind="contribution").value
    assert manifest.left_out == ((leaf.index, "private"),)
    assert len(manifest.contributions) == 1
    assert not any("rex" in file.name for file in manifest.files)
    said = rex.status(lease)
    assert (said.state, said.leaf) == ("accepted", leaf.index)
    assert "readable by the key holders that its owner named" in said.why
    assert opened(own, packed, CARLA) == plain
    with pytest.raises(VerificationFailed):
        opened(own, packed, DORA)


def test_nothing_but_private_contributions_is_a_release_without_a_public_one(own):
    """Their readers merge from it; what each of them is, stands in it."""
    rex = own.member()
    packed, _ = pack_private(rex, rex.lease("rex", ("rex-p2",)), [recipient(CARLA)])
    leaf = rex.check(rex.contribute(packed)).index

    own.release()

    reply = rex.link.call(methods.GET_MANIFEST, wire.ManifestRequest(), wire.ManifestReply)
    manifest = ReleaseManifest.from_document(parse(reply.document, kind="release"))
    assert (manifest.contributions, manifest.left_out) == ((), ((leaf, "private"),))
    assert [file.name for file in manifest.files] == ["card.md", "info.json"]


def test_a_repeat_gets_the_same_receipt_and_an_upload_goes_on_after_a_restart(tmp_path):
    """Begin, one chunk, restart: the wraps are there; Begin again, Put, Commit, and Commit."""
    folder = founded(tmp_path, rank=12)
    with running(folder) as coordinator:
        member = coordinator.member()
        packed, plain = pack_private(member, member.lease(vectors=(8,)), [recipient(CARLA)])
        member.begin(packed)
        member.put(packed, 0)

    with running(folder) as coordinator:
        later = coordinator.member()
        later.key = member.key
        first = later.contribute(packed)

        assert later.contribute(packed) == later.commit(packed).receipt == first
        assert opened(coordinator, packed, CARLA) == plain


def test_wraps_that_were_swept_away_are_sent_again(own):
    """The lease ran out for a while and the sweeper came: Commit says begin again; so it goes."""
    member = own.member()
    packed, _ = pack_private(member, member.lease(), [recipient(CARLA)])
    member.begin(packed)
    member.put(packed, 0)
    own.folder.blob(hashlib.sha256(packed.wraps).hexdigest()).unlink()

    with pytest.raises(Refused) as refused:
        member.commit(packed)

    assert refused.value.code == "unknown-upload"
    assert member.contribute(packed)


def changed(packed: Packed, **how) -> Packed:
    """Return the packed contribution with other manifest fields, signed by its owner."""
    said = ContributionManifest.from_document(parse(packed.document, kind="contribution"))
    body = dataclasses.replace(said, **how).body()
    document = sign("contribution", body, [packed.lease.key]).to_bytes()
    return dataclasses.replace(packed, document=document)


def test_what_does_not_fit_is_refused_before_a_byte_is_stored(own):
    """Other wraps, none, too many, a public one with wraps, the plaintext's length: all refused."""
    member = own.member()
    lease = member.lease()
    packed, plain = pack_private(member, lease, [recipient(CARLA)])
    public = member.pack(lease)
    other = bytes(640)

    def with_wraps(wraps: bytes, base: Packed = packed) -> Packed:
        return dataclasses.replace(base, wraps=wraps)

    def announcing(wraps: bytes) -> Packed:
        return with_wraps(wraps, changed(packed, wraps=hashlib.sha256(wraps).hexdigest()))

    short = member.pack(
        lease, blob=plain, form="private", plain="0" * 64, wraps=hashlib.sha256(other).hexdigest()
    )
    tried = {
        "other wraps": with_wraps(other),
        "no wraps": with_wraps(b""),
        "announced none": announcing(b""),
        "seven wraps": announcing(bytes(560)),
        "72 wraps": announcing(bytes(72 * 80)),
        "public with wraps": with_wraps(other, public),
        "the plaintext itself": with_wraps(other, short),
    }

    for what, sent in tried.items():
        with pytest.raises(OrthoFedError) as refused:
            member.begin(sent)
        assert own.house.store.run(upload_rows.still_open) == (), (what, refused.value)
    assert member.contribute(packed)


def test_a_blob_that_is_not_the_announced_one_is_refused_at_commit(own):
    """The chunks are right and the manifest names another SHA-256: nothing is stored."""
    member = own.member()
    packed, _ = pack_private(member, member.lease(), [recipient(CARLA)])
    lying = changed(packed, blob="ab" * 32)

    with pytest.raises(ContributionRejected, match="SHA-256"):
        member.contribute(lying)

    assert member.contribute(packed)


def test_wraps_are_kept_scrubbed_and_in_the_backup(tmp_path):
    """The sweeper leaves them, a backup holds them, and the doctor names damaged or lost ones."""
    folder = founded(tmp_path)
    with running(folder) as coordinator:
        member = coordinator.member()
        packed, _ = pack_private(member, member.lease(), [recipient(CARLA)])
        member.contribute(packed)
        assert coordinator.house.sweep() == 0
    wraps = folder.blob(hashlib.sha256(packed.wraps).hexdigest())
    assert wraps.stat().st_mode & 0o777 == 0o444
    name = wraps.relative_to(folder.root).as_posix()

    made = back_up(folder, tmp_path / "b", fs=FastFs(), clock=SystemClock(), say=lambda _: None)
    assert name in {file.name for file in made.files}
    assert examine(tmp_path / "b", say=lambda _: None).healthy
    assert examine(folder.root, say=lambda _: None).healthy

    wraps.chmod(0o644)
    wraps.write_bytes(packed.wraps[:-1] + b"\0")
    assert [f.file for f in examine(folder.root, say=lambda _: None).scrubbed.findings] == [name]
    wraps.unlink()
    (found,) = examine(folder.root, say=lambda _: None).scrubbed.findings
    assert (found.file, found.what) == (name, "is missing")


def _search(folder: Path, nursery: Nursery, num: int, *, private: bool) -> tuple[int, int]:
    """Contribute the same plaintext ``num`` times; return how often it was seen, where.

    Planted are four runs of its bytes; looked for in the memory, then in all files.
    """
    with nursery.serve(folder) as child:
        asked = {"uses": num, "days": 1, "operator": False}
        text = ControlClient(DataFolder.open(folder).control).ask("invite", asked)["invite"]
        planted = list[bytes]()
        for n in range(num):
            member = Member.joined(text)
            plain = random_blob(member.spec(), (1,), seed=7, size=0.02)
            planted = [plain[len(plain) * part // 5 :][:24] for part in (1, 2, 3, 4)]
            lease = member.lease(f"name-{n:03}", (f"word-{n:03}",))
            packed, same = pack_private(member, lease, [recipient(CARLA)], blob=plain)
            assert same == plain
            member.contribute(packed if private else member.pack(lease, blob=plain))
            member.link.close()
        return len(in_memory(child.pid, planted)), len(in_files(folder, planted))


@pytest.mark.skipif(not os.access("/proc/self/mem", os.R_OK), reason="it reads /proc/PID/mem")
def test_a_hundred_private_uploads_leave_no_plaintext_with_the_coordinator(tmp_path):
    """100 private uploads: nothing in memory, nothing on the disk.

    The search itself works: after three public ones, which is what a coordinator that could read
    them would hold, it finds them.
    """
    fed = founded_small(tmp_path, slots=128, kib=32)

    with Nursery() as nursery:
        private = _search(copied(fed, tmp_path / "one"), nursery, 100, private=True)
        public = _search(copied(fed, tmp_path / "two"), nursery, 3, private=False)

    assert private == (0, 0)
    assert public[0] > 0
    assert public[1] == 4


def test_a_private_contribution_does_not_open_the_way_for_a_public_one(tmp_path):
    """`approve_first`: a private one needs no approval, and its member's first public one does."""
    policy = Policy(norm_percent=100, embedding_percent=1_000_000, approve_first=True)
    with running(founded(tmp_path, policy=policy)) as coordinator:
        member = coordinator.member()
        secret = member.lease("rex", ("rex-p2",))
        packed, _ = pack_private(member, secret, [recipient(CARLA)])
        member.contribute(packed)
        public = member.lease("anna", ("anna-k7",))

        member.contribute(member.pack(public))

        assert member.status(secret).state == "accepted"
        assert member.status(public).state == "quarantined"
