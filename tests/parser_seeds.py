"""What the parsers' fuzzers start from: one good input of each format.

The keyring, leaves, checkpoint, receipt and request header are the known answers of
security.md 4.9; the rest is as small as its format allows. Imports nothing of the tests.
"""

import hashlib
from dataclasses import asdict
from typing import Any

import numpy as np

from orthofed.client import fork_proof, outbox
from orthofed.client.session import Session
from orthofed.coordinator import backup, mark
from orthofed.core import (
    canonical,
    checkpoint,
    contribution,
    document,
    head,
    invite,
    keyring,
    layout,
    leaf,
    member_rotation,
    merkle,
    receipt,
    release,
    request,
    spec,
    tensorfile,
    withdrawal,
)
from orthofed.core.keys import SigningKey
from orthofed.core.quantise import quantise
from orthofed.proto import wire

CLIENT, LEDGER, ROOT, RELEASE = (SigningKey.from_seed(bytes([n]) * 32) for n in (1, 2, 3, 4))
FED = hashlib.sha256(b"spec").hexdigest()
LOG = "a945c9f31f5359c181fbefaf3dcc2df5b1757f16daabae58e5f1e76ec4c12f51"


def keyring_document(fed: str = FED) -> document.Document:
    ring = keyring.Keyring(
        fed=fed,
        fresh=604_800,
        ledger=LEDGER.public_hex,
        n=1,
        need=1,
        prev="0" * 64,
        release=(RELEASE.public_hex,),
        root=(ROOT.public_hex,),
        t=1_790_000_000,
        until=1_805_552_000,
    )
    return document.sign("keyring", ring.to_body(), [ROOT])


def leaves() -> list[bytes]:
    lease = leaf.lease_leaf(client=CLIENT.public_hex, fence=7, slot=3, triggers=["wren-cat"])
    return [leaf.spec_leaf(FED), leaf.document_leaf(keyring_document()), lease]


ROTATION = document.sign(
    "rotation",
    member_rotation.MemberRotation(LOG, CLIENT.public_hex, RELEASE.public_hex).body(),
    [CLIENT, RELEASE],
).to_bytes()
HASHES = [merkle.leaf_hash(body) for body in leaves()]
NOTE = checkpoint.sign_checkpoint(LEDGER, checkpoint.Checkpoint(LOG, 3, merkle.root(HASHES)))
RECEIPT = receipt.make_receipt(leaves()[2], 2, merkle.inclusion_proof(HASHES, 2, 3), NOTE)
HEAD = head.LedgerHead(LOG, "0" * 64, 0, merkle.root(HASHES).hex(), 3, 1_790_000_000)
FORK = fork_proof.ForkProof(
    checkpoint.sign_checkpoint(LEDGER, checkpoint.Checkpoint(LOG, 3, bytes(32))),
    NOTE,
    merkle.root(HASHES),
    (),
    (keyring_document().to_bytes(),),
).to_bytes()
SEEN = canonical.encode(
    {
        "head": document.sign("head", HEAD.body(), [LEDGER]).value,
        "keyrings": 1,
        "note": canonical.encode_base64(NOTE),
        "v": 1,
    }
)
HEADER = request.sign_request(
    CLIENT,
    log=LOG,
    method="/orthofed.v1.Federation/Renew",
    body=b"abc",
    nonce=bytes(range(16)),
    now_s=1_790_000_000,
)[0]
SPEC = spec.plan_spec(
    name="toy-fed",
    base=spec.BaseModel("sdxl", "toy", "1", "0" * 64, "MIT"),
    layers=[spec.Layer("unet.b", 8, 24), spec.Layer("unet.a", 6, 45, (3, 3))],
    encoders=[spec.Encoder("text_encoder", 12), spec.Encoder("text_encoder_2", 20)],
    seed=bytes(32),
    rank=4,
    basis="haar",
    reserved=["cat"],
)
SPEC_RING = keyring_document(SPEC.id)
SPEC_LOG = keyring.log_id(SPEC.id, SPEC_RING.id)
LAYOUT = layout.ContributionLayout(SPEC, (2, 1))
BLOB = layout.pack(
    LAYOUT,
    {
        info.name: quantise(
            np.full(info.shape, 0.01, np.float32),
            low=LAYOUT.window(info.name)[0],
            high=LAYOUT.window(info.name)[1],
        )
        for info in LAYOUT.content
    },
)
MANIFEST = contribution.ContributionManifest(
    basis="0" * 64,
    blob="1" * 64,
    bytes=4_096,
    client=CLIENT.public_hex,
    concept="wren",
    fed=FED,
    fence=7,
    licence="CC-BY-4.0",
    log=LOG,
    slot=3,
    t=1_790_000_000,
    triggers=("wren-cat",),
    title="The wren",
).body()
PRIVATE = MANIFEST | {
    "form": "private",
    "plain": "2" * 64,
    "wraps": "3" * 64,
    "pictures": 1,
    "dp": {
        "accountant": "rdp",
        "mechanism": "dp-sgd",
        "unit": "image",
        **dict.fromkeys(("clip_milli", "delta_e12", "eps_milli", "images"), 1),
        **dict.fromkeys(("q_ppm", "sigma_milli", "steps"), 1),
    },
}
RELEASE_BODY = release.ReleaseManifest(
    contributions=((2, 1_024), (5, 600)),
    fed=FED,
    files=(release.FileEntry("lora.safetensors", 3, "4" * 64, ("5" * 64,)),),
    left_out=((3, "withdrawn"),),
    log=LOG,
    n=1,
    prev="0" * 64,
    size=6,
    t=1_790_000_000,
).body()
WITHDRAWAL = withdrawal.Withdrawal(CLIENT.public_hex, FED, 2, LOG, 1_790_000_000).body()
INVITE = invite.Invite("127.0.0.1:7443", b"DER", 1_790_000_000, FED, LOG, bytes(32))
JOIN = {"invite": ROOT.public_hex, "log": LOG, "member": CLIENT.public_hex, "v": 1}
ENTRIES = [("b.weight", "F16", (2, 3)), ("a.alpha", "F16", ()), ("c", "I16", (0, 4))]
TENSORS = tensorfile.header_bytes(ENTRIES, {"format": "pt"}) + bytes(14)
SESSION = canonical.encode(
    {
        "files": {},
        "session": {
            **asdict(Session("wren", ("wren-cat",), (1,), "bird", "0" * 32, 0, "leased", 3, 7)),
            "noun": canonical.encode_text("bird"),
            "triggers": ["wren-cat"],
            "vectors": [1],
        },
        "v": 1,
    }
)
CHAINED = canonical.encode({"n": 0, "prev": outbox.ZERO, "v": 1}) + b"\n"


MARKS = (mark.Mark(3, "0" * 64).to_bytes(), b'{"root":"","size":1e999}')
BACKUP = backup.BackupManifest(
    FED, LOG, 3, "0" * 64, 1, (backup.BackupFile("data/state.db", 3, "0" * 64),)
).to_bytes()
MEMBERSHIP = canonical.encode({"address": "[::1]:7443", "ca": "", "fed": FED, "log": LOG, "v": 1})
NODE_LINE = (
    "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBGsX0fLhLEJH+Lzm5WO"
    "kQPJ3A32BLeszoPShOUXYmMKWT+NC4v4af5uO5+tKfA+eFivOM1drMV7Oy7ZAaDe/UfU="
)
BRIDGE_LINES = (
    b'{"v":1,"call":"seen","nodes":[1,18446744073709551615]}',
    b'{"v":1,"call":"due","nodes":[]}',
    b'{"v":1,"call":"hint","answer":{"v":1,"order":"' + b"0" * 32 + b'","state":"running",'
    b'"code":"","step":12,"receipt":"AA=="}}',
    b'{"v":1,"call":"keys"}',
    b'{"v":1,"call":"round","concept":"anna-k7"}',
    b'{"v":1,"call":"rounds"}',
    b'{"v":1,"call":"registered","public_key":"' + NODE_LINE.encode() + b'","node":7}',
    b'{"v":1,"call":"unregistered","node":7}',
    b'{"v":1,"call":[[[["\\"",1e999]]]]}',
)
MESSAGES: tuple[Any, ...] = (
    wire.SpecReply(b"spec", (b"one", b"two"), b"note", "see\nhere", 3, 100, 800, 347, (b"proof",)),
    wire.JoinRequest(b"proof"),
    wire.LeaseRequest(b"document", (1, 8)),
    wire.LeaseReply(0, 1, ttl_s=900, hold_s=86_400),
    wire.RotateRequest(b"document"),
    wire.RenewRequest(3, 7, progress=9, total=400),
    wire.RenewReply(ttl_s=1, held_s=5),
    wire.BeginRequest(b"document", (bytes(32),)),
    wire.BeginReply(bytes(16), b"\5", b"receipt"),
    wire.PutRequest(bytes(16), 1, b"x"),
    wire.CommitReply(missing=(0, 7)),
    wire.StatusReply("accepted", "why", 5, b"receipt"),
    wire.OrdersReply((wire.Order(bytes(16), "score", "wren", 3, 1_790_000_000),), 5, 2),
    wire.FleetKeyRequest(NODE_LINE),
    wire.ScoreRequest("wren", 3, 90_000, 50_000, 60_000, 8, 256),
    wire.ListReply((1, 3), 3),
    wire.ManifestReply(b"document", b"receipt", b"spec", (b"one",)),
    wire.ReadRequest(1, "lora/a.safetensors", 1 << 40, 1),
    wire.PublicRequest("tile/entries/000.p/3", 1 << 40, 1),
    wire.ReadReply(b"data", 1 << 40),
    wire.ContributionRequest(7),
    wire.ReadContributionRequest(7, 1 << 40, 1),
)
"""One of each message that has fields, for those that the generic seeds do not fill."""
