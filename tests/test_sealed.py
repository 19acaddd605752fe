"""Private contributions: what was sealed opens whole, for its recipients and its lease, or not."""

import hashlib
import random
from collections import Counter
from dataclasses import dataclass, replace

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from orthofed.client.sealing import Sealed, open_private, seal_for
from orthofed.client.wraps import unwrap, wrap
from orthofed.core import sealed
from orthofed.core.contribution import ContributionManifest
from orthofed.core.errors import InputError, VerificationFailed
from orthofed.core.recipient import Recipient
from orthofed.core.sealed import lease_context, open_sealed, seal, sealed_bytes

from . import hpke_by_hand

KEY, PREFIX = bytes(range(32)), bytes(range(7))
PLAIN = b"".join(
    hashlib.sha256(b"%d" % i).digest() for i in range(8_000)
)  # 3 whole segments, a bit
LEASE = ContributionManifest(
    basis="00" * 32,
    blob="11" * 32,
    bytes=1,
    client="22" * 32,
    concept="wren",
    fed="33" * 32,
    fence=7,
    licence="CC0-1.0",
    log="44" * 32,
    slot=3,
    t=1_790_000_000,
    triggers=("wren-cat",),
)
CARLA, DORA, EVE = (X25519PrivateKey.from_private_bytes(bytes([n]) * 32) for n in (1, 2, 3))


def recipient(private: X25519PrivateKey) -> Recipient:
    return Recipient(private.public_key().public_bytes_raw())


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def pieces(data: bytes, size: int) -> list[bytes]:
    return [data[i : i + size] for i in range(0, len(data), size)]


def stream(plain: bytes, *, key: bytes = KEY, context: bytes = b"x" * 32) -> bytes:
    parts = pieces(plain, sealed.SEGMENT_BYTES)
    return b"".join(seal(parts, key=key, prefix=PREFIX, context=context))


def opened(data: bytes, *, key: bytes = KEY, context: bytes = b"x" * 32) -> bytes:
    parts = pieces(data[sealed.HEAD_BYTES :], sealed.SEALED_SEGMENT_BYTES)
    return b"".join(open_sealed(data[: sealed.HEAD_BYTES], parts, key=key, context=context))


def packed(plain: bytes, *to: X25519PrivateKey) -> tuple[ContributionManifest, Sealed]:
    """Seal for ``to``; return the manifest that its owner would sign."""
    made = seal_for([recipient(key) for key in to], plain, context=lease_context(LEASE))
    return signed(made, plain), made


def signed(made: Sealed, plain: bytes) -> ContributionManifest:
    return replace(
        LEASE,
        form="private",
        blob=sha256(made.blob),
        bytes=len(made.blob),
        plain=sha256(plain),
        wraps=sha256(made.wraps),
    )


def test_the_stream_is_the_one_of_the_specification() -> None:
    """A known answer: the context of a lease, and the ciphertext of four segments, to the byte."""
    data = stream(PLAIN, context=lease_context(LEASE))

    assert lease_context(LEASE).hex() == CONTEXT
    assert data.startswith(b"ofpriv/1\n" + PREFIX)
    assert (len(data), sha256(data)) == (len(PLAIN) + 16 + 4 * 16, STREAM)
    assert sealed_bytes(len(PLAIN)) == len(data)


CONTEXT = "429a853f5a5f6e6c3363d3f5c5fbc78f72a4cc0cf24d12cacde8eb02e56ad2fe"
STREAM = "594a21b107c7ee4be93de2fb1d055726ba0fdd7be2bf15fbbeceed0cafdb9bd8"


@given(st.sampled_from([0, 1, 2]), st.integers(-2, 2), st.binary(min_size=1, max_size=3))
def test_any_length_opens_again_and_is_known_beforehand(
    segments: int, more: int, seed: bytes
) -> None:
    """Around every border between segments, the empty plaintext included."""
    size = max(0, segments * sealed.SEGMENT_BYTES + more)
    plain = (seed * size)[:size]

    data = stream(plain)

    assert len(data) == sealed_bytes(size)
    assert opened(data) == plain


def test_hpke_gives_the_answers_of_the_rfc() -> None:
    """RFC 9180, A.2.1: by hand to the byte, and the library opens what was made by hand."""
    info = bytes.fromhex("4f6465206f6e2061204772656369616e2055726e")
    plain = bytes.fromhex("4265617574792069732074727574682c20747275746820626561757479")
    ephemeral, private = (
        X25519PrivateKey.from_private_bytes(bytes.fromhex(text))
        for text in (
            "f4ec9b33b792c372c1d2c2063507b684ef925b8c75a42dbcbf57d63ccd381600",
            "8057991eef8f1f1af18f4a9491d16a1ce333f695d4db8e38da75975c4478e0fb",
        )
    )

    made = hpke_by_hand.setup(private.public_key(), info=info, ephemeral=ephemeral)
    context = bytes(range(32))
    here = hpke_by_hand.setup(
        private.public_key(), info=sealed.wrap_info(context), ephemeral=ephemeral
    )

    share = "1afa08d3dec047a643885163f1180476fa7ddb54c6a8029ea33f95796bf2ac4a"
    assert made.share.hex() == share
    assert made.key.hex() == "ad2744de8e17f4ebba575b3f5f5a8fa1f69c2a07f6e7500bc60ca6e3e3ec1c91"
    assert made.nonce.hex() == "5c4d98150661b848853b547f"
    assert made.seal(plain, b"Count-0").hex() == share + (
        "1c5250d8034ec2b784ba2cfd69dbdb8af406cfe3ff938e131f0def8c8b60b4db21993c62ce81883d2dd1b51a28"
    )
    wraps = here.seal(KEY, b"") + bytes(7 * sealed.WRAP_BYTES)
    assert unwrap(wraps, private, context=context) == KEY
    assert sha256(wraps[: sealed.WRAP_BYTES]) == WRAP


WRAP = "9d5b679049e594b4b056b672ff0f23aa262d98cd78663c26b864895174242c1b"


def test_each_recipient_opens_it_and_nobody_else() -> None:
    """Two are named: both get the same bytes; a third key gets an error that says what to do."""
    manifest, made = packed(PLAIN, CARLA, DORA)

    assert open_private(manifest, made.blob, made.wraps, CARLA) == PLAIN
    assert open_private(manifest, made.blob, made.wraps, DORA) == PLAIN
    with pytest.raises(VerificationFailed, match="none of 8 wraps opens") as caught:
        open_private(manifest, made.blob, made.wraps, EVE)
    assert caught.value.code == "not-for-you"


def test_who_is_left_out_later_opens_the_old_and_not_the_new() -> None:
    """Dropping a recipient works for the blobs to come; two blobs never share a key."""
    old, first = packed(PLAIN, CARLA, DORA)
    new, second = packed(PLAIN, CARLA)

    assert open_private(old, first.blob, first.wraps, DORA) == PLAIN
    with pytest.raises(VerificationFailed):
        open_private(new, second.blob, second.wraps, DORA)
    key = unwrap(first.wraps, DORA, context=lease_context(LEASE))
    with pytest.raises(VerificationFailed):  # nor with the key of the old blob
        opened(second.blob, key=key, context=lease_context(LEASE))
    assert first.blob[:16] != second.blob[:16]


@dataclass(frozen=True)
class Attempt:
    """What somebody tries to open, and with what."""

    blob: bytes
    wraps: bytes
    lease: ContributionManifest = LEASE
    private: X25519PrivateKey = CARLA


def _flip(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]


def _segments(made: Sealed) -> list[bytes]:
    return pieces(made.blob[sealed.HEAD_BYTES :], sealed.SEALED_SEGMENT_BYTES)


def _joined(made: Sealed, segments: list[bytes], head: bytes = b"") -> Attempt:
    head = head or made.blob[: sealed.HEAD_BYTES]
    return Attempt(head + b"".join(segments), made.wraps)


def _swap(rng: random.Random, made: Sealed, _other: Sealed) -> Attempt:
    segments = _segments(made)
    i, j = rng.sample(range(3), 2)  # the last one is shorter, so it cannot take a place
    segments[i], segments[j] = segments[j], segments[i]
    return _joined(made, segments)


def _splice(rng: random.Random, made: Sealed, other: Sealed) -> Attempt:
    """Put a segment of another blob of the same lease in its place."""
    segments, i = _segments(made), rng.randrange(4)
    segments[i] = _segments(other)[i]
    return _joined(made, segments)


def _drop(rng: random.Random, made: Sealed, _other: Sealed) -> Attempt:
    segments = _segments(made)
    del segments[rng.randrange(4)]
    return _joined(made, segments)


def _repeat(rng: random.Random, made: Sealed, _other: Sealed) -> Attempt:
    segments = _segments(made)
    segments.insert(rng.randrange(3), segments[rng.randrange(3)])
    return _joined(made, segments)


def _cut(rng: random.Random, made: Sealed, _other: Sealed) -> Attempt:
    ends = [sealed.HEAD_BYTES + n * sealed.SEALED_SEGMENT_BYTES for n in range(4)]
    end = rng.choice([rng.randrange(len(made.blob)), rng.choice(ends)])
    return Attempt(made.blob[:end], made.wraps)


def _longer(rng: random.Random, made: Sealed, _other: Sealed) -> Attempt:
    return Attempt(made.blob + rng.randbytes(rng.choice([1, 16, 17, 70_000])), made.wraps)


def _mine(made: Sealed) -> int:
    """Return which wrap is Carla's."""
    for i in range(8):
        entry = made.wraps[i * sealed.WRAP_BYTES :][: sealed.WRAP_BYTES]
        try:
            unwrap(entry * 8, CARLA, context=lease_context(LEASE))
        except VerificationFailed:
            continue
        return i
    raise AssertionError("one of them is")


def _wrap_flip(rng: random.Random, made: Sealed, _other: Sealed) -> Attempt:
    start = _mine(made) * sealed.WRAP_BYTES
    end = start + sealed.WRAP_BYTES
    # The first bit of the share's last byte is the one that X25519 ignores, and HPKE does not.
    entry = _flip(made.wraps[start:end], rng)
    return Attempt(made.blob, made.wraps[:start] + entry + made.wraps[end:])


def _other_lease(rng: random.Random, made: Sealed, _other: Sealed) -> Attempt:
    changed = rng.choice(
        [
            {"slot": rng.choice([0, 1, 2, 4, 5])},
            {"fence": rng.choice([6, 8, 9])},
            {"client": rng.randbytes(32).hex()},
            {"log": rng.randbytes(32).hex()},
            {"fed": rng.randbytes(32).hex()},
        ]
    )
    return Attempt(made.blob, made.wraps, lease=replace(LEASE, **changed))


def _is_refused(tried: Attempt) -> bool:
    context = lease_context(tried.lease)
    try:
        key = unwrap(tried.wraps, tried.private, context=context)
        opened(tried.blob, key=key, context=context)
    except VerificationFailed as error:
        return error.code in {"not-opened", "not-for-you", "bad-wraps"}
    return False


CHANGES = {
    "flip": lambda rng, made, _: Attempt(_flip(made.blob, rng), made.wraps),
    "cut": _cut,
    "longer": _longer,
    "swap": _swap,
    "splice": _splice,
    "drop": _drop,
    "repeat": _repeat,
    "head": lambda _, made, other: _joined(made, _segments(made), other.blob[:16]),
    "other wraps": lambda _, made, other: Attempt(made.blob, other.wraps),
    "wrap flip": _wrap_flip,
    "wraps cut": lambda rng, made, _: Attempt(made.blob, made.wraps[: rng.randrange(640)]),
    "other lease": _other_lease,
    "other key": lambda rng, made, _: Attempt(
        made.blob, made.wraps, private=X25519PrivateKey.from_private_bytes(rng.randbytes(32))
    ),
}


def test_ten_thousand_changes_are_refused() -> None:
    """Flips, cuts, swaps, splices, other wraps, other keys, other slots: 10,000 of 10,000.

    The attacker signs the changed bytes too, so no hash of the manifest helps: the cipher alone
    has to notice. The hashes are looked at apart, with the manifest that the owner signed.
    """
    rng = random.Random(7)  # noqa: S311  # no secret
    manifest, made = packed(PLAIN, CARLA)
    _, other = packed(PLAIN[::-1], CARLA)
    refused = Counter[str]()

    for _ in range(10_000):
        how = rng.choice(list(CHANGES))
        tried = CHANGES[how](rng, made, other)
        refused[how] += _is_refused(tried)
        if (tried.blob, tried.wraps) != (made.blob, made.wraps):
            with pytest.raises(VerificationFailed, match="not what its owner signed"):
                open_private(manifest, tried.blob, tried.wraps, CARLA)

    assert sum(refused.values()) == 10_000, refused
    assert set(refused) == set(CHANGES)
    assert open_private(manifest, made.blob, made.wraps, CARLA) == PLAIN


def test_what_is_inside_has_to_be_what_was_signed() -> None:
    """An owner seals one thing and signs another: its recipients do not get past the hash."""
    manifest, made = packed(PLAIN, CARLA)

    with pytest.raises(VerificationFailed, match="the plaintext of a private contribution"):
        open_private(replace(manifest, plain="55" * 32), made.blob, made.wraps, CARLA)


@pytest.mark.parametrize(("num", "entries"), [(1, 8), (7, 8), (8, 8), (9, 16), (63, 64), (64, 64)])
def test_the_wraps_tell_only_a_multiple_of_eight(num: int, entries: int) -> None:
    """Padded and shuffled; each of up to 64 recipients finds its own among them."""
    keys = [X25519PrivateKey.generate() for _ in range(num)]

    wraps = wrap(KEY, [recipient(key) for key in keys], context=b"x" * 32)

    assert len(wraps) == entries * sealed.WRAP_BYTES
    assert {unwrap(wraps, key, context=b"x" * 32) for key in (keys[0], keys[-1])} == {KEY}


def test_padding_looks_like_a_wrap() -> None:
    """No share has its last bit set, as half of all random bytes would: nobody can count."""
    wraps = b"".join(wrap(KEY, [recipient(CARLA)], context=b"x" * 32) for _ in range(16))

    shares = [entry[:32] for entry in pieces(wraps, sealed.WRAP_BYTES)]
    assert len(set(shares)) == 128
    assert not any(share[31] & 0x80 for share in shares)


def test_the_order_of_the_wraps_is_drawn() -> None:
    """Carla is named first every time, and stands anywhere."""
    named = [recipient(key) for key in (CARLA, DORA, EVE)]

    places = {_mine(Sealed(b"", wrap(KEY, named, context=lease_context(LEASE)))) for _ in range(64)}

    assert len(places) > 4


def test_sixty_five_recipients_are_too_many_and_none_is_too_few() -> None:
    """The bound is 64; a key named twice counts once."""
    keys = [recipient(X25519PrivateKey.generate()) for _ in range(65)]

    for wrong in (keys, []):
        with pytest.raises(InputError, match="allowed are 1 to 64"):
            wrap(KEY, wrong, context=b"x" * 32)
    assert len(wrap(KEY, [*keys[:64], keys[0]], context=b"x" * 32)) == 64 * sealed.WRAP_BYTES


@pytest.mark.parametrize("size", [0, 80, 639, 641, 720, 65 * 80, 72 * 80])
def test_wraps_of_another_length_are_refused(size: int) -> None:
    """All that a stranger can check: 8 to 64 entries, a multiple of eight."""
    with pytest.raises(VerificationFailed, match=f"wraps of {size} bytes"):
        sealed.check_wraps(bytes(size))


def test_a_recipient_is_one_word_with_a_check_of_its_own() -> None:
    """A known answer; a slip in any character is noticed, and so is a key of small order."""
    text = recipient(CARLA).to_text()

    assert text == RECIPIENT
    assert Recipient.from_text(f" {text}\n") == recipient(CARLA)
    wrong = [text[:i] + ("A" if text[i] != "A" else "B") + text[i + 1 :] for i in range(len(text))]
    for each in [*wrong, "", "ofr1:", text[:-1], text + "A", text.removeprefix("ofr1:")]:
        with pytest.raises(InputError) as caught:
            Recipient.from_text(each)
        assert caught.value.code == "bad-recipient"
    for small in (bytes(32), b"\1" + bytes(31), (2**255 - 19).to_bytes(32, "little"), b"\xff" * 32):
        with pytest.raises(InputError):
            Recipient.from_text(Recipient(small).to_text())


RECIPIENT = "ofr1:pOCSkrZRwni5dyxWn1-puxPZBrRqtoyd-dwrRAn4ogk-Cb6x"
