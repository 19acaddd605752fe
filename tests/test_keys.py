"""Ed25519: strict verification, keys that are refused, derivation (security.md 3, 4.2)."""

import hashlib
import hmac

import pytest

from orthofed.core.errors import VerificationFailed
from orthofed.core.keys import (
    SigningKey,
    check_public,
    derive_client,
    derive_member,
    verify,
)

P = 2**255 - 19
D = -121665 * pow(121666, -1, P) % P
L = 2**252 + 27742317777372353535851937790883648493
KEY = SigningKey.from_seed(bytes([1]) * 32)
LOG = "a945c9f31f5359c181fbefaf3dcc2df5b1757f16daabae58e5f1e76ec4c12f51"


def _encode(y: int, sign: int = 0) -> str:
    return (y | sign << 255).to_bytes(32, "little").hex()


def _add(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
    """Add two points by the law of RFC 8032."""
    (x1, y1), (x2, y2) = one, other
    product = D * x1 * x2 * y1 * y2
    x = (x1 * y2 + x2 * y1) * pow(1 + product, -1, P) % P
    return x, (y1 * y2 + x1 * x2) * pow(1 - product, -1, P) % P


def _points(y: int) -> list[tuple[int, int]]:
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if x * x % P != square:
        x = x * pow(2, (P - 1) // 4, P) % P
    return sorted({(x, y), (-x % P, y)}) if x * x % P == square else []


def _small_order() -> list[tuple[int, int]]:
    """Make the eight points of order 1, 2, 4, 8, from a generator of order 8."""
    y = int.from_bytes(
        bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), "little"
    )
    step = _points(y)[0]
    points = [(0, 1)]
    while (following := _add(points[-1], step)) != (0, 1):
        points.append(following)
    return points


SMALL_ORDER = _small_order()


def test_there_are_eight_small_order_points() -> None:
    """The list below is made from the group law, not copied."""
    assert len(SMALL_ORDER) == 8


@pytest.mark.parametrize("point", SMALL_ORDER, ids=range(8))
@pytest.mark.parametrize("sign", [0, 1])
def test_a_small_order_key_is_refused(point: tuple[int, int], sign: int) -> None:
    """Both sign bits: such a key signs nearly every message at once."""
    with pytest.raises(VerificationFailed, match="small order") as refused:
        check_public(_encode(point[1], sign))

    assert refused.value.code == "bad-key"


@pytest.mark.parametrize("y", range(P, 2**255))
@pytest.mark.parametrize("sign", [0, 1])
def test_a_key_that_is_not_canonical_is_refused(y: int, sign: int) -> None:
    """All 19 values of y from p up: second spellings of 0 to 18."""
    with pytest.raises(VerificationFailed, match="not canonical"):
        check_public(_encode(y, sign))


def test_a_key_that_is_no_point_is_refused_and_every_point_is_taken() -> None:
    """Half of all y have no x."""
    taken = 0
    for y in range(2, 60):
        if _points(y):
            check_public(_encode(y))
            taken += 1
        else:
            with pytest.raises(VerificationFailed, match="no point"):
                check_public(_encode(y))

    assert 15 < taken < 45


@pytest.mark.parametrize(
    "text", ["", "00", "G" * 64, KEY.public_hex.upper(), KEY.public_hex + "00"]
)
def test_a_key_in_another_spelling_is_refused(text: str) -> None:
    with pytest.raises(VerificationFailed, match="64 lower-case"):
        check_public(text)


def test_a_signature_verifies_and_every_flipped_bit_of_it_is_refused() -> None:
    """512 flips of the signature, each refused; so is another message and another key."""
    signature = KEY.sign(b"abc")

    verify(KEY.public_hex, signature, b"abc")
    for bit in range(512):
        forged = bytearray(signature)
        forged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(VerificationFailed):
            verify(KEY.public_hex, bytes(forged), b"abc")
    other = SigningKey.from_seed(bytes(32)).public_hex
    for key, signed, message in (
        (KEY.public_hex, signature, b"abd"),
        (KEY.public_hex, signature[:-1], b"abc"),
        (KEY.public_hex, b"", b"abc"),
        (other, signature, b"abc"),
    ):
        with pytest.raises(VerificationFailed) as refused:
            verify(key, signed, message)
        assert refused.value.code == "bad-signature"


def test_s_beyond_the_group_order_is_refused() -> None:
    """R || S + L satisfies the equation too; RFC 8032 wants S below L."""
    signature = KEY.sign(b"abc")
    s = int.from_bytes(signature[32:], "little")

    with pytest.raises(VerificationFailed):
        verify(KEY.public_hex, signature[:32] + (s + L).to_bytes(32, "little"), b"abc")


def test_a_small_order_key_verifies_nothing() -> None:
    """R = the point, S = 0 would satisfy the equation for key and message of small order."""
    identity = bytes.fromhex(_encode(1))

    with pytest.raises(VerificationFailed, match="small order"):
        verify(_encode(1), identity + bytes(32), b"anything")


def _hkdf(master: bytes, info: bytes) -> bytes:
    """RFC 5869 for one block, by hand."""
    extracted = hmac.new(bytes.fromhex(LOG), master, hashlib.sha256).digest()
    return hmac.new(extracted, info + b"\x01", hashlib.sha256).digest()


def test_keys_are_derived_from_master_and_log_as_written() -> None:
    """security.md 3: HKDF-SHA256, salt = L, info with the counter big-endian."""
    master = bytes(range(32))

    assert derive_member(master, LOG).seed == _hkdf(master, b"orthofed/v1/member-key\n")
    for counter in (0, 1, 256, 2**63):
        info = b"orthofed/v1/client-key\n" + counter.to_bytes(8, "big")
        assert derive_client(master, LOG, counter).seed == _hkdf(master, info)


def test_every_lease_and_every_ledger_has_another_key() -> None:
    """T27: two leases cannot be linked through their keys."""
    master = bytes(32)
    made = [derive_member(master, LOG), derive_member(master, "0" * 64)]
    made += [derive_client(master, log, c) for log in (LOG, "0" * 64) for c in range(4)]

    assert len({key.public_hex for key in made}) == len(made)


def test_a_key_does_not_print_its_seed() -> None:
    """T27: a logged key gives nothing away."""
    assert repr(KEY) == "SigningKey()"


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_seed_or_master_of_another_length_is_our_own_bug(length: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        SigningKey.from_seed(bytes(length))
    with pytest.raises(ValueError, match="32 bytes"):
        derive_member(bytes(length), LOG)
