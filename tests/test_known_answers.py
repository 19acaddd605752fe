"""security.md 4.9, to the byte: what every implementation of the signed formats must give."""

import base64
import hashlib

from orthofed.core import merkle
from orthofed.core.checkpoint import Checkpoint, open_checkpoint, sign_checkpoint
from orthofed.core.document import Document, sign
from orthofed.core.keyring import Keyring, log_id
from orthofed.core.keys import SigningKey
from orthofed.core.leaf import document_leaf, lease_leaf, spec_leaf
from orthofed.core.receipt import make_receipt, verify_receipt
from orthofed.core.release import FileEntry, ReleaseManifest
from orthofed.core.request import sign_request

CLIENT, LEDGER, ROOT, RELEASE = (SigningKey.from_seed(bytes([n]) * 32) for n in (1, 2, 3, 4))
CLIENT_KEY = "8a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c"
KEYRING_ID = "1a21980d7716f3606eba0113ff8d6ea570fe4593f3def8f1deba6b95a133457d"
LOG = "a945c9f31f5359c181fbefaf3dcc2df5b1757f16daabae58e5f1e76ec4c12f51"
HEADER_SHA256 = "882949b1a2fec0382cd717305b5e5f1274d1ea42b9ee5f5a53c54f03a9cee56a"
SIGNATURE = (
    "d8392458d2b02d668cec958f0159705c4c2e2e328079373628258238e30d42e4"
    "3ce25c91014c6bb4387405707fa9f3536711be5ab9af71076aa1602214fa690a"
)
LEAVES = (
    "4cdfd10f4a6c16a70b8885385327f90f46710336edb55dfacbacc45618215143",
    "0b0a307a36bdcdc1e2fea5451789f2dd7d01ffce4eaad14bf9065bd81fbed1bd",
    "800a04292029e3f6ce505b6ae5985abff17886f4e8b472869d9950044e694238",
)
ROOT_BASE64 = "v865n6donl0LOpvMv1uiV2Q4UqmTidSb7B198P31rBo="
KEY_ID = "2fa0c6c8"
NOTE_SHA256 = "6ff0a0ce37088b329f627009c69661e6c56d1f2f1086010bef069b394da67450"
RECEIPT_SHA256 = "91758574594a7220a20d764725b3dc4eddef79e58cffacd869b2d6ca68fcae67"
RELEASE_ID = "9766eb88c15fca1cfd85241de2d960416f0d37aab1eebc62394ccf491a004fc4"
RELEASE_SHA256 = "575693a90e90b52bc590f7b3e3e9c1f43db263c960989f99d589307594143baf"


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


FED = _sha256(b"spec")
ABC = _sha256(b"abc")


def _keyring() -> Document:
    ring = Keyring(
        fed=FED,
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
    return sign("keyring", ring.to_body(), [ROOT])


def _leaves() -> list[bytes]:
    lease = lease_leaf(client=CLIENT_KEY, fence=7, slot=3, triggers=["wren-cat"])
    return [spec_leaf(FED), document_leaf(_keyring()), lease]


def _note() -> bytes:
    root = merkle.root([merkle.leaf_hash(leaf) for leaf in _leaves()])
    return sign_checkpoint(LEDGER, Checkpoint(LOG, 3, root))


def test_a_seed_gives_its_public_key() -> None:
    assert CLIENT.public_hex == CLIENT_KEY


def test_a_keyring_gives_its_id_and_the_log_id() -> None:
    signed = _keyring()

    assert signed.id == KEYRING_ID
    assert Keyring.from_body(signed.body).id == KEYRING_ID
    assert log_id(FED, KEYRING_ID) == LOG


def test_a_request_gives_header_and_signature() -> None:
    header, signature = sign_request(
        CLIENT,
        log=LOG,
        method="/orthofed.v1.Federation/Renew",
        body=b"abc",
        nonce=bytes(range(16)),
        now_s=1_790_000_000,
    )

    assert header.decode() == (
        f'{{"aud":"{LOG}","body":"{ABC}","key":"{CLIENT_KEY}",'
        '"method":"/orthofed.v1.Federation/Renew","nonce":"000102030405060708090a0b0c0d0e0f",'
        '"t":1790000000,"v":1}'
    )
    assert _sha256(header) == HEADER_SHA256
    assert signature.hex() == SIGNATURE


def test_three_leaves_give_their_hashes() -> None:
    bodies = _leaves()

    assert tuple(merkle.leaf_hash(body).hex() for body in bodies) == LEAVES
    assert bodies[2].decode() == (
        f'{{"client":"{CLIENT_KEY}","fence":7,"kind":"lease","slot":3,'
        '"triggers":["wren-cat"],"v":1}'
    )


def test_a_checkpoint_gives_its_note() -> None:
    note = _note()

    checkpoint = open_checkpoint(note, LEDGER.public_hex, LOG)
    line = note.decode().splitlines()[-1]

    assert base64.b64encode(checkpoint.root).decode() == ROOT_BASE64
    assert checkpoint.size == 3
    assert base64.b64decode(line.rpartition(" ")[2])[:4].hex() == KEY_ID
    assert _sha256(note) == NOTE_SHA256


def test_leaf_2_gives_its_receipt() -> None:
    hashes = [merkle.leaf_hash(body) for body in _leaves()]
    proof = merkle.inclusion_proof(hashes, 2, 3)

    receipt = make_receipt(_leaves()[2], 2, proof, _note())

    assert (len(receipt), _sha256(receipt)) == (579, RECEIPT_SHA256)
    assert verify_receipt(receipt, log=LOG, ledger_key=LEDGER.public_hex).index == 2


def test_a_release_gives_its_id_and_document() -> None:
    manifest = ReleaseManifest(
        contributions=(),
        fed=FED,
        files=(FileEntry("lora.safetensors", 3, ABC, (ABC,)),),
        left_out=(),
        log=LOG,
        n=1,
        prev="0" * 64,
        size=3,
        t=1_790_000_000,
    )

    signed = sign("release", manifest.body(), [RELEASE])

    assert signed.id == RELEASE_ID
    assert _sha256(signed.to_bytes()) == RELEASE_SHA256
    assert ReleaseManifest.from_document(signed) == manifest
