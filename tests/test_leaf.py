"""Ledger leaves (security.md 4.6)."""

import pytest

from orthofed.core.canonical import encode
from orthofed.core.document import from_value, sign
from orthofed.core.errors import VerificationFailed
from orthofed.core.keys import SigningKey
from orthofed.core.leaf import document_leaf, lease_leaf, parse_leaf, release_leaf, spec_leaf

KEY = SigningKey.from_seed(bytes([1]) * 32)
HASH = "ab" * 32


def test_every_kind_of_leaf_survives_its_bytes() -> None:
    signed = sign("withdrawal", {"leaf": 3, "v": 1}, [KEY])

    assert parse_leaf(spec_leaf(HASH)) == {"kind": "spec", "spec": HASH, "v": 1}
    assert parse_leaf(release_leaf(manifest=HASH, n=1)) == {
        "kind": "release", "manifest": HASH, "n": 1, "v": 1,
    }  # fmt: skip
    lease = parse_leaf(lease_leaf(client=HASH, fence=1, slot=0, triggers=["wren-cat"]))
    assert (lease["fence"], lease["slot"], lease["triggers"]) == (1, 0, ["wren-cat"])
    for kind in ("withdrawal", "contribution", "keyring"):
        assert parse_leaf(document_leaf(sign(kind, {"v": 1}, [KEY])))["kind"] == kind
    assert from_value(parse_leaf(document_leaf(signed))["doc"], kind="withdrawal") == signed


def test_a_nested_document_still_verifies() -> None:
    """Canonical JSON gives the signed bytes back from inside a leaf."""
    leaf = parse_leaf(document_leaf(sign("keyring", {"n": 1, "v": 1}, [KEY])))

    from_value(leaf["doc"], kind="keyring").verify([KEY.public_hex])


@pytest.mark.parametrize(
    "value",
    [
        [],
        1,
        {},
        {"kind": "tea", "v": 1},
        {"kind": ["spec"], "v": 1},
        {"kind": "spec", "spec": HASH},
        {"kind": "spec", "spec": HASH, "v": 2},
        {"kind": "spec", "spec": "x", "v": 1},
        {"kind": "spec", "spec": HASH, "v": 1, "address": "x"},
        {"kind": "release", "manifest": HASH, "n": 0, "v": 1},
        {"client": HASH, "fence": 0, "kind": "lease", "slot": 0, "triggers": ["a"], "v": 1},
        {"client": HASH, "fence": 1, "kind": "lease", "slot": 0, "triggers": [1], "v": 1},
        {"client": HASH, "fence": 1, "kind": "lease", "slot": 0, "triggers": [], "v": 1},
        {"doc": {}, "kind": "contribution", "v": 1},
        {"doc": sign("keyring", {"v": 1}, [KEY]).value, "kind": "contribution", "v": 1},
    ],
)
def test_a_leaf_of_another_shape_is_refused(value: object) -> None:
    with pytest.raises(VerificationFailed):
        parse_leaf(encode(value))


def test_a_leaf_beyond_16_kib_is_refused_by_writer_and_reader() -> None:
    """T5: size before parsing."""
    signed = sign("contribution", {"title": "x" * (16 << 10), "v": 1}, [KEY])

    with pytest.raises(VerificationFailed, match="allowed are 16384"):
        document_leaf(signed)
    with pytest.raises(VerificationFailed, match="allowed are 16384"):
        parse_leaf(b"[" * 20_000)
    with pytest.raises(VerificationFailed, match="no known kind"):
        document_leaf(sign("head", {"v": 1}, [KEY]))
