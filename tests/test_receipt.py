"""Checkpoints and receipts: every byte counts (security.md 4.7, T4, T16)."""

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orthofed.core import merkle
from orthofed.core.checkpoint import Checkpoint, open_checkpoint, sign_checkpoint
from orthofed.core.errors import OrthoFedError, VerificationFailed
from orthofed.core.keys import SigningKey
from orthofed.core.leaf import lease_leaf, release_leaf, spec_leaf
from orthofed.core.receipt import Receipt, make_receipt, verify_receipt

KEY, OTHER = (SigningKey.from_seed(bytes([n]) * 32) for n in (2, 5))
LOG = "a9" * 32
BODIES = [
    spec_leaf("ab" * 32),
    lease_leaf(client="cd" * 32, fence=1, slot=0, triggers=["wren-cat"]),
    release_leaf(manifest="ef" * 32, n=1),
    lease_leaf(client="ce" * 32, fence=2, slot=0, triggers=["wren-dog"]),
]
HASHES = [merkle.leaf_hash(body) for body in BODIES]
CHECKPOINT = Checkpoint(LOG, 4, merkle.root(HASHES))
NOTE = sign_checkpoint(KEY, CHECKPOINT)
RECEIPT = make_receipt(BODIES[3], 3, merkle.inclusion_proof(HASHES, 3, 4), NOTE)
COSIGNATURE = "\u2014 witness.example AAAAAAAA\n".encode()


def _open(note: bytes) -> Checkpoint:
    return open_checkpoint(note, KEY.public_hex, LOG)


def _verify(data: bytes) -> Receipt:
    return verify_receipt(data, log=LOG, ledger_key=KEY.public_hex)


def _flips(data: bytes) -> list[bytes]:
    return [
        data[:n] + bytes([data[n] ^ change]) + data[n + 1 :]
        for n in range(len(data))
        for change in (0x01, 0x20, 0x80)
    ]


def test_a_checkpoint_survives_its_note() -> None:
    assert _open(NOTE) == CHECKPOINT
    assert _open(sign_checkpoint(KEY, Checkpoint(LOG, 0, merkle.EMPTY_ROOT))).size == 0


def test_every_flipped_byte_of_a_checkpoint_is_refused() -> None:
    for forged in _flips(NOTE):
        with pytest.raises(VerificationFailed):
            _open(forged)


def test_every_truncated_checkpoint_is_refused() -> None:
    for end in range(len(NOTE)):
        with pytest.raises(VerificationFailed):
            _open(NOTE[:end])


def test_cosignatures_of_witnesses_may_follow() -> None:
    """They are for policies of a later reader; here they only must look like signatures."""
    assert _open(NOTE + COSIGNATURE * 3) == CHECKPOINT
    for wrong in (COSIGNATURE[:-1], b"\n", b"x\n", COSIGNATURE + b"\n", COSIGNATURE[2:]):
        with pytest.raises(VerificationFailed):
            _open(NOTE + wrong)
    text, _, line = NOTE.partition(b"\n\n")
    with pytest.raises(VerificationFailed):
        _open(text + b"\n\n" + COSIGNATURE + line)


def test_another_key_or_log_or_text_is_refused() -> None:
    """T16: right form, right signature, wrong speaker or wrong ledger."""
    root = base64.b64encode(CHECKPOINT.root).decode()
    for note in (
        sign_checkpoint(OTHER, CHECKPOINT),
        sign_checkpoint(KEY, Checkpoint("b0" * 32, 4, CHECKPOINT.root)),
        sign_checkpoint(KEY, Checkpoint(LOG, 4, bytes(31))),
        NOTE.replace(b"\n4\n", b"\n04\n"),
        NOTE.replace(b"\n4\n", b"\n-4\n"),
        NOTE.replace(b"\n4\n", b"\n" + b"4" * 5_000 + b"\n"),
        NOTE.replace(root.encode(), root.rstrip("=").encode()),
        NOTE.replace(b"\n\n", b"\nextension\n\n"),
        NOTE.replace(b"\n", b"\r\n"),
        b"",
        b"\xff",
        b"\n\n\n",
        NOTE + b"x" * (16 << 10),
    ):
        with pytest.raises(VerificationFailed):
            _open(note)


def test_a_receipt_tells_its_leaf_and_place() -> None:
    receipt = _verify(RECEIPT)

    assert (receipt.index, receipt.leaf_body, receipt.checkpoint) == (3, BODIES[3], CHECKPOINT)
    assert receipt.leaf["slot"] == 0


def test_every_flipped_byte_of_a_receipt_is_refused() -> None:
    """T4: leaf, index, each hash, checkpoint and signature."""
    for forged in _flips(RECEIPT):
        with pytest.raises(VerificationFailed):
            _verify(forged)


def test_every_truncated_receipt_is_refused() -> None:
    for end in range(len(RECEIPT)):
        with pytest.raises(VerificationFailed):
            _verify(RECEIPT[:end])


def test_a_receipt_in_another_spelling_is_refused() -> None:
    """Leading zeros, padding, a hash to spare, another leaf, another key, another ledger."""
    proof = merkle.inclusion_proof(HASHES, 3, 4)
    for wrong in (
        RECEIPT.replace(b"index 3", b"index 03"),
        RECEIPT.replace(b"extra ", b"extra  "),
        RECEIPT.replace(b"\n", b"\r\n"),
        make_receipt(BODIES[3], 3, [*proof, bytes(32)], NOTE),
        make_receipt(BODIES[3], 3, proof[:-1], NOTE),
        make_receipt(BODIES[2], 3, proof, NOTE),
        make_receipt(BODIES[3], 2, proof, NOTE),
        make_receipt(BODIES[3], 3, proof, sign_checkpoint(OTHER, CHECKPOINT)),
        make_receipt(b"no leaf", 3, proof, NOTE),
        RECEIPT + b" " * (48 << 10),
        b"",
        b"\xff",
    ):
        with pytest.raises(VerificationFailed):
            _verify(wrong)
    with pytest.raises(VerificationFailed):
        verify_receipt(RECEIPT, log="b0" * 32, ledger_key=KEY.public_hex)


def test_a_leaf_that_is_no_leaf_is_refused_though_it_is_in_the_tree() -> None:
    """What the ledger key signed still has to be of a known form."""
    body = b'{"kind":"tea","v":1}'
    note = sign_checkpoint(KEY, Checkpoint(LOG, 1, merkle.leaf_hash(body)))

    with pytest.raises(VerificationFailed, match="no known kind"):
        _verify(make_receipt(body, 0, [], note))


@settings(derandomize=True, deadline=None)
@given(st.binary(max_size=200), st.integers(0, len(RECEIPT)))
def test_whatever_is_read_gives_our_own_error(noise: bytes, place: int) -> None:
    for data in (noise, RECEIPT[:place] + noise, NOTE[: place % len(NOTE)] + noise):
        if data not in {RECEIPT, NOTE}:
            with pytest.raises(OrthoFedError):
                _verify(data)
            with pytest.raises(OrthoFedError):
                _open(data)
