"""Uploading to a real coordinator: cut, killed, forged, damaged (reliability.md 4, security.md T4).

The contributions are random integers in normal form; the base needs no torch and is so wide
that one contribution is three chunks.
"""

import hashlib
import os
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from orthofed.client import join as joining
from orthofed.client.channel import Channel
from orthofed.client.home import Home
from orthofed.client.masters import Masters
from orthofed.client.outbox import Outbox
from orthofed.client.trust import TrustedFederation, trusted_receipt
from orthofed.client.upload import Upload, chunk_hashes
from orthofed.core import document
from orthofed.core.basis import integer_block
from orthofed.core.contribution import ContributionManifest, block_fingerprint
from orthofed.core.errors import (
    ContributionRejected,
    InputError,
    LeaseLost,
    OrthoFedError,
    Refused,
    Unreachable,
)
from orthofed.core.keys import SigningKey
from orthofed.core.layout import ContributionLayout, pack
from orthofed.core.quantise import Quantised
from orthofed.proto import methods, wire

from .coordinator_process import Coordinator, wide_base

THIEF = SigningKey.from_seed(b"\x63" * 32)


@pytest.fixture(scope="module")
def coordinator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Coordinator]:
    folder = tmp_path_factory.mktemp("coordinator")
    base = wide_base(folder / "base")
    with Coordinator.found(folder / "fed", base, "--rank", "5", "--ttl", "5") as running:
        yield running


@pytest.fixture(scope="module")
def invite(coordinator: Coordinator) -> str:
    return coordinator.invite(uses=100)


@dataclass
class Owner:
    """A member with one lease and a packed contribution, ready to be sent."""

    home: Home
    federation: TrustedFederation
    channel: Channel
    outbox: Outbox
    key: SigningKey
    manifest: ContributionManifest
    blob: Path
    sent: list[int]

    @property
    def signed(self) -> bytes:
        """The manifest, signed by the client key."""
        return document.sign("contribution", self.manifest.body(), [self.key]).to_bytes()

    def upload(self, signed: bytes | None = None) -> bytes:
        """Approve and send; return the receipt."""
        signed = signed or self.signed
        self.outbox.approve(signed, chunk_hashes(self.blob))
        return Upload(
            self.channel,
            key=self.key,
            document=signed,
            blob=self.blob,
            on_bytes=lambda done, _total: self.sent.append(done),
        ).run()

    def repack(self, blob: bytes) -> None:
        """Replace the blob and name its hash and size in the manifest."""
        self.blob.write_bytes(blob)
        digest = hashlib.sha256(blob).hexdigest()
        self.manifest = replace(self.manifest, blob=digest, bytes=len(blob))


def _contribution(layout: ContributionLayout, seed: int) -> bytes:
    random = np.random.default_rng(seed)
    tensors: dict[str, Quantised] = {}
    for info in layout.content:
        q = random.integers(-32767, 32768, info.shape).astype(np.int16)
        q.flat[0] = 32767
        tensors[info.name] = Quantised(q, -24)
    return pack(layout, tensors)


@pytest.fixture
def owner(invite: str, tmp_path: Path) -> Iterator[Owner]:
    """Join, lease and pack."""
    home = Home.at(tmp_path / "home")
    joined = joining.join(home, invite, url=None, patience_s=20)
    spec, log = joined.federation.spec, joined.federation.log
    master = Masters(home).newest()
    number = Masters(home).next_counter(master)
    member, key = master.member(log), master.client(log, number)
    concept = f"fox-{secrets.token_hex(6)}"
    body: dict[str, object] = {
        "client": key.public_hex,
        "concept": concept,
        "log": log,
        "member": member.public_hex,
        "request": secrets.token_hex(16),
        "triggers": [concept],
        "v": 1,
    }
    outbox = Outbox(home.folder / "outbox.jsonl")
    pinned = joined.membership
    with Channel(pinned.host_port, ca=pinned.ca, log=log, outbox=outbox, patience_s=20) as channel:
        request = wire.LeaseRequest(document.sign("lease", body, [key]).to_bytes(), (2,))
        lease = channel.call(methods.LEASE, request, wire.LeaseReply, key=member)
        blob = _contribution(ContributionLayout(spec, (2,)), lease.slot)
        path = tmp_path / "blob"
        path.write_bytes(blob)
        manifest = ContributionManifest(
            basis=block_fingerprint(
                integer_block(
                    spec.basis,
                    seed=spec.seed,
                    layer=layer.path,
                    width=layer.width,
                    rank=spec.layer_rank(layer),
                    slot=lease.slot,
                )
                for layer in spec.layers
            ),
            blob=hashlib.sha256(blob).hexdigest(),
            bytes=len(blob),
            client=key.public_hex,
            concept=concept,
            fed=spec.id,
            fence=lease.fence,
            licence="CC0-1.0",
            log=log,
            slot=lease.slot,
            t=int(time.time()),
            triggers=(concept,),
        )
        yield Owner(home, joined.federation, channel, outbox, key, manifest, path, [])


def _puts(owner: Owner) -> int:
    """Return how many chunks the outbox says were sent."""
    return (owner.home.folder / "outbox.jsonl").read_bytes().count(b'"chunk"')


def test_an_upload_ends_with_a_receipt_that_verifies(owner: Owner) -> None:
    """The receipt is the ledger's word for this very manifest; asking again gives the same."""
    receipt = owner.upload()

    parsed = trusted_receipt(owner.federation, receipt, manifest=owner.signed)
    assert parsed.index > 1
    assert owner.sent[-1] == owner.blob.stat().st_size
    assert owner.upload() == receipt
    assert _puts(owner) == len(chunk_hashes(owner.blob)) > 1


class _Killed(Exception):
    """The client ends here."""


def test_a_client_that_was_killed_sends_only_what_is_missing(owner: Owner) -> None:
    """Stopped after the first chunk, started again: chunks that are whole do not travel twice."""
    size = owner.blob.stat().st_size

    def stop(done: int, _total: int) -> None:
        if 0 < done < size:
            raise _Killed

    owner.outbox.approve(owner.signed, chunk_hashes(owner.blob))
    with pytest.raises(_Killed):
        Upload(
            owner.channel, key=owner.key, document=owner.signed, blob=owner.blob, on_bytes=stop
        ).run()
    before = _puts(owner)

    owner.upload()

    assert owner.sent[0] >= methods.CHUNK_BYTES
    assert 1 <= before < len(chunk_hashes(owner.blob)) + 1
    assert _puts(owner) <= len(chunk_hashes(owner.blob)) + 1  # one was on its way when it ended


def test_a_coordinator_that_is_killed_midway_loses_nothing(
    owner: Owner, coordinator: Coordinator
) -> None:
    """SIGKILL after the first chunk, start again: the same call goes on and gets its receipt."""
    killed: list[int] = []

    def kill(done: int, _total: int) -> None:
        if done >= methods.CHUNK_BYTES and not killed:
            killed.append(done)
            coordinator.kill()
            coordinator.start()

    owner.outbox.approve(owner.signed, chunk_hashes(owner.blob))
    receipt = Upload(
        owner.channel, key=owner.key, document=owner.signed, blob=owner.blob, on_bytes=kill
    ).run()

    assert killed
    trusted_receipt(owner.federation, receipt, manifest=owner.signed)
    assert owner.upload() == receipt


def test_a_manifest_with_a_wrong_signature_is_refused(owner: Owner) -> None:
    """T4: signed by another key, or changed after it was signed."""
    body = owner.manifest.body()
    forged = document.sign("contribution", body, [THIEF]).to_bytes()
    changed = owner.signed.replace(b'"licence":"CC0-1.0"', b'"licence":"MIT-0.0"')
    assert changed != owner.signed

    for wrong in (forged, changed):
        with pytest.raises(OrthoFedError) as caught:
            owner.upload(wrong)

        assert caught.value.exit_code in (3, 4)
        assert _puts(owner) == 0


def test_another_clients_key_gets_nothing_from_this_lease(owner: Owner) -> None:
    """T2: slot and fence are no secret; without the client key they are worth nothing."""
    request = wire.RenewRequest(owner.manifest.slot, owner.manifest.fence, 1)

    with pytest.raises(Refused):
        owner.channel.call(methods.RENEW, request, wire.RenewReply, key=THIEF)


def test_bytes_that_changed_after_they_were_hashed_are_not_taken(owner: Owner) -> None:
    """A tampered chunk: the gate at home stops it, since its owner approved other bytes."""
    upload = Upload(
        owner.channel,
        key=owner.key,
        document=owner.signed,
        blob=owner.blob,
        on_bytes=lambda *_: None,
    )
    owner.outbox.approve(owner.signed, chunk_hashes(owner.blob))
    data = bytearray(owner.blob.read_bytes())
    data[700_000 % len(data)] ^= 1
    owner.blob.write_bytes(data)

    with pytest.raises(InputError) as caught:
        upload.run()

    assert caught.value.code == "egress-refused"


def test_a_tampered_chunk_is_refused_by_the_coordinator_too(owner: Owner) -> None:
    """DATA_LOSS: the bytes are not those that Begin announced; nothing of them is kept."""
    chunks = chunk_hashes(owner.blob)
    wrong = b"x" * methods.CHUNK_BYTES
    owner.outbox.approve(owner.signed, [*chunks, hashlib.sha256(wrong).digest()])
    begin = wire.BeginRequest(owner.signed, chunks)
    begun = owner.channel.call(methods.BEGIN, begin, wire.BeginReply, key=owner.key)
    pinned = owner.home.membership()

    put = wire.PutRequest(begun.upload_id, 0, wrong)
    with (
        Channel(
            pinned.host_port, ca=pinned.ca, log=pinned.log, outbox=owner.outbox, patience_s=0
        ) as hasty,
        pytest.raises(Refused) as caught,
    ):
        hasty.call(methods.PUT, put, wire.PutReply, key=owner.key)

    assert caught.value.code == "chunk-damaged"
    trusted_receipt(owner.federation, owner.upload(), manifest=owner.signed)


def test_a_blob_that_is_not_the_manifests_is_refused_at_commit(owner: Owner) -> None:
    """The chunks match their announced hashes, the whole does not match the signed one."""
    data = bytearray(owner.blob.read_bytes())
    data[-1] ^= 1
    owner.blob.write_bytes(data)

    with pytest.raises(ContributionRejected) as caught:
        owner.upload()

    assert caught.value.exit_code == 3


@pytest.mark.parametrize("cut", [1, 2, 1000, methods.CHUNK_BYTES])
def test_a_truncated_contribution_is_refused_at_begin(cut: int, owner: Owner) -> None:
    """T5: the lease fixes the size; a shorter blob is refused before a chunk travels."""
    owner.repack(owner.blob.read_bytes()[:-cut])

    with pytest.raises(ContributionRejected, match="bytes"):
        owner.upload()

    assert _puts(owner) == 0


def test_a_foreign_header_is_refused(owner: Owner) -> None:
    """T8: one changed byte in the header: it is compared, not parsed."""
    blob = bytearray(owner.blob.read_bytes())
    blob[10] ^= 1
    owner.repack(bytes(blob))

    with pytest.raises(ContributionRejected):
        owner.upload()


def test_a_number_out_of_bounds_is_refused(owner: Owner) -> None:
    """T7: a mantissa of -32768 is not in normal form."""
    blob = bytearray(owner.blob.read_bytes())
    middle = len(blob) // 2 & ~1
    blob[middle : middle + 2] = (-32768).to_bytes(2, "little", signed=True)
    owner.repack(bytes(blob))

    with pytest.raises(ContributionRejected):
        owner.upload()


def test_a_slot_that_was_given_back_takes_no_upload(owner: Owner) -> None:
    """FAILED_PRECONDITION: the lease is lost, and the error says so."""
    give_back = wire.GiveBackRequest(owner.manifest.slot, owner.manifest.fence)
    owner.channel.call(methods.GIVE_BACK, give_back, wire.GiveBackReply, key=owner.key)

    with pytest.raises(LeaseLost):
        owner.upload()


def test_what_was_not_approved_never_reaches_the_coordinator(owner: Owner) -> None:
    """The egress gate: without the owner's yes not even the manifest leaves."""
    upload = Upload(
        owner.channel,
        key=owner.key,
        document=owner.signed,
        blob=owner.blob,
        on_bytes=lambda *_: None,
    )

    with pytest.raises(InputError, match="stopped before it left"):
        upload.run()

    status = wire.StatusRequest(owner.manifest.slot, owner.manifest.fence)
    reply = owner.channel.call(methods.STATUS, status, wire.StatusReply, key=owner.key)
    assert reply.state == "leased"


def test_a_wrong_clock_is_corrected_by_the_coordinators(
    owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client ten years ahead: one refusal, then its requests carry the right time."""
    honest = time.time
    monkeypatch.setattr("orthofed.client.channel.time.time", lambda: honest() + 315_360_000)

    receipt = owner.upload()

    trusted_receipt(owner.federation, receipt, manifest=owner.signed)


def test_a_coordinator_that_is_gone_is_named_after_the_patience(
    coordinator: Coordinator, owner: Owner
) -> None:
    """Tried again for as long as the patience lasts, then one clear message."""
    pinned = owner.home.membership()
    coordinator.kill()
    started_s = time.monotonic()
    try:
        with (
            Channel(
                pinned.host_port, ca=pinned.ca, log=pinned.log, outbox=owner.outbox, patience_s=1
            ) as channel,
            pytest.raises(Unreachable, match="gave no answer for 1 s") as caught,
        ):
            channel.call(methods.GET_SPEC, wire.SpecRequest(), wire.SpecReply)
    finally:
        coordinator.start()

    assert caught.value.exit_code == 1
    assert 0.5 < time.monotonic() - started_s < 60
    assert os.environ["GRPC_VERBOSITY"] == "ERROR"
