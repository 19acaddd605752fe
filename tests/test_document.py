"""Signed documents: every byte counts, and only the right keys do (security.md 4.2, T4)."""

import pytest

from orthofed.core.canonical import encode
from orthofed.core.document import (
    Document,
    Signature,
    parse,
    sign,
    sign_detached,
    signed_message,
    verify_detached,
)
from orthofed.core.errors import VerificationFailed
from orthofed.core.keys import SigningKey

ONE, TWO, THREE = (SigningKey.from_seed(bytes([n]) * 32) for n in (1, 2, 3))
BODY: dict[str, object] = {"fed": "00" * 32, "n": 7, "names": ["wren-cat"], "ok": True, "v": 1}


def test_a_document_survives_its_bytes() -> None:
    signed = sign("keyring", BODY, [TWO, ONE])

    again = parse(signed.to_bytes(), kind="keyring")

    assert again == signed
    assert [each.key for each in again.sigs] == sorted([ONE.public_hex, TWO.public_hex])
    again.verify([ONE.public_hex, TWO.public_hex], need=2)


def test_every_flipped_byte_is_refused() -> None:
    """T4: each byte of two signatures, kind, keys and body, in two ways."""
    data = sign("contribution", BODY, [ONE, TWO]).to_bytes()
    allowed = [ONE.public_hex, TWO.public_hex]

    for place in range(len(data)):
        for change in (0x01, 0x20):
            forged = bytearray(data)
            forged[place] ^= change
            with pytest.raises(VerificationFailed):
                parse(bytes(forged), kind="contribution").verify(allowed)


def test_every_truncated_or_extended_document_is_refused() -> None:
    data = sign("contribution", BODY, [ONE]).to_bytes()

    for end in range(len(data)):
        with pytest.raises(VerificationFailed):
            parse(data[:end], kind="contribution")
    for tail in (b"\n", b" ", b"\0", data):
        with pytest.raises(VerificationFailed):
            parse(data + tail, kind="contribution")


def test_a_signature_of_one_kind_does_not_stand_under_another() -> None:
    """The kind is part of what is signed, and of what the reader asks for."""
    signed = sign("join", BODY, [ONE])
    moved = Document("lease", signed.body, signed.sigs)

    with pytest.raises(VerificationFailed, match="signature"):
        moved.verify([ONE.public_hex])
    with pytest.raises(VerificationFailed, match="kind"):
        parse(signed.to_bytes(), kind="lease")
    with pytest.raises(VerificationFailed, match="kind"):
        signed_message("tea", BODY)


def test_an_unknown_signer_does_not_count() -> None:
    """One of two is ours: enough for need 1, not for need 2; none is not enough."""
    signed = sign("keyring", BODY, [ONE, THREE])

    signed.verify([ONE.public_hex, TWO.public_hex], need=1)
    for allowed, need in (([ONE.public_hex, TWO.public_hex], 2), ([TWO.public_hex], 1), ([], 1)):
        with pytest.raises(VerificationFailed) as refused:
            signed.verify(allowed, need=need)
        assert refused.value.code == "too-few-signatures"


def test_one_key_named_twice_counts_once() -> None:
    """2 of 3 is not met by one root that is listed twice."""
    signed = sign("keyring", BODY, [ONE])
    doubled = Document(signed.kind, signed.body, signed.sigs * 2)

    with pytest.raises(VerificationFailed):
        doubled.verify([ONE.public_hex, ONE.public_hex], need=2)
    with pytest.raises(VerificationFailed, match="each key once"):
        parse(doubled.to_bytes(), kind="keyring")


def test_a_threshold_of_zero_is_refused() -> None:
    """A keyring that needs nobody is no keyring."""
    with pytest.raises(VerificationFailed):
        sign("keyring", BODY, [ONE]).verify([ONE.public_hex], need=0)


def test_a_wrong_signature_beside_a_right_one_is_refused() -> None:
    """Nothing that is wrong is passed on, even when it would not be needed."""
    good = sign("keyring", BODY, [ONE]).sigs
    bad = Signature(TWO.public_hex, good[0].sig)
    signed = Document("keyring", BODY, tuple(sorted((*good, bad), key=lambda each: each.key)))

    with pytest.raises(VerificationFailed) as refused:
        signed.verify([ONE.public_hex])

    assert refused.value.code == "bad-signature"


def test_a_co_signature_does_not_change_the_id() -> None:
    assert sign("keyring", BODY, [ONE]).id == sign("keyring", BODY, [ONE, TWO]).id


def test_a_document_of_another_shape_is_refused() -> None:
    """No signature, 17 of them, unsorted, a body that is no object, a field too many."""
    signed = sign("keyring", BODY, [ONE, TWO])
    value = signed.value
    one = {"key": ONE.public_hex, "sig": "00" * 64}
    for changed in (
        {**value, "sigs": []},
        {**value, "sigs": [{**one, "key": f"{n:064x}"} for n in range(17)]},
        {**value, "sigs": [one, {**one, "key": "00" * 32}]},
        {**value, "sigs": [{**one, "more": 1}]},
        {**value, "sigs": [{**one, "sig": "00" * 63}]},
        {**value, "sigs": "none"},
        {**value, "body": [1]},
        {**value, "more": 1},
        {"body": {}, "kind": "keyring"},
        [],
        1,
    ):
        with pytest.raises(VerificationFailed):
            parse(encode(changed), kind="keyring")


def test_a_detached_signature_speaks_of_its_body_and_kind() -> None:
    signature = sign_detached("lease", BODY, ONE)

    verify_detached("lease", BODY, signature=signature, key=ONE.public_hex)
    for kind, body, key in (
        ("join", BODY, ONE),
        ("lease", {**BODY, "n": 8}, ONE),
        ("lease", BODY, TWO),
    ):
        with pytest.raises(VerificationFailed):
            verify_detached(kind, body, signature=signature, key=key.public_hex)
