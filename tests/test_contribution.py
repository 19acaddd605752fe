"""The contribution manifest (security.md 4.5, T4, T11)."""

import hashlib

import numpy as np
import pytest

from orthofed.core.canonical import encode_base64, encode_text
from orthofed.core.contribution import ContributionManifest, block_fingerprint
from orthofed.core.document import Document, parse, sign
from orthofed.core.errors import VerificationFailed
from orthofed.core.keys import SigningKey

CLIENT, OTHER = (SigningKey.from_seed(bytes([n]) * 32) for n in (1, 2))
MANIFEST = ContributionManifest(
    basis="01" * 32,
    blob="02" * 32,
    bytes=4_096,
    client=CLIENT.public_hex,
    concept="wren-cat",
    fed="03" * 32,
    fence=7,
    licence="CC-BY-4.0",
    log="04" * 32,
    slot=3,
    t=1_790_000_000,
    triggers=("wren-cat", "wren-hat"),
    title="Wren, drawn",
)
DP = {
    "accountant": "rdp", "clip_milli": 1_000, "delta_e12": 100_000_000, "eps_milli": 8_000,
    "images": 1_000, "mechanism": "dp-sgd", "q_ppm": 1_000, "sigma_milli": 2_490, "steps": 1_000,
    "unit": "image",
}  # fmt: skip


def test_a_manifest_survives_its_document() -> None:
    data = sign("contribution", MANIFEST.body(), [CLIENT]).to_bytes()

    assert ContributionManifest.from_document(parse(data, kind="contribution")) == MANIFEST


def test_absent_fields_are_left_out() -> None:
    """No title, no DP claim, not private: the body has the fourteen fields of every manifest."""
    plain = ContributionManifest.from_body(
        {key: value for key, value in MANIFEST.body().items() if key != "title"}
    )

    assert plain.title == ""
    assert len(plain.body()) == 14


def test_private_and_dp_fields_survive() -> None:
    body = {**MANIFEST.body(), "dp": DP, "form": "private", "plain": "05" * 32, "wraps": "06" * 32}

    assert ContributionManifest.from_body(body).body() == body


def test_a_yes_to_pictures_is_signed_and_silence_is_none() -> None:
    """The field is 1 or not there."""
    body = {**MANIFEST.body(), "pictures": 1}

    assert ContributionManifest.from_body(body).pictures
    assert ContributionManifest.from_body(body).body() == body
    assert not MANIFEST.pictures


def test_only_the_clients_own_signature_is_taken() -> None:
    """T4: another key, a second key, a signature of another kind."""
    body = MANIFEST.body()
    signed = sign("contribution", body, [CLIENT])
    for wrong in (
        sign("contribution", body, [OTHER]),
        sign("contribution", body, [CLIENT, OTHER]),
        sign("withdrawal", body, [CLIENT]),
        Document("contribution", {**body, "slot": 4}, signed.sigs),
    ):
        with pytest.raises(VerificationFailed):
            ContributionManifest.from_document(wrong)


@pytest.mark.parametrize(
    "change",
    [
        {"basis": "01" * 31},
        {"blob": "X" * 64},
        {"bytes": 0},
        {"bytes": (512 << 20) + 1},
        {"client": ""},
        {"concept": "Wren-Cat"},
        {"concept": "../wren"},
        {"concept": 1},
        {"fence": 0},
        {"fence": True},
        {"form": "secret"},
        {"form": "private"},
        {"plain": "05" * 32},
        {"licence": "CC BY; <b>"},
        {"licence": ""},
        {"slot": -1},
        {"title": encode_text("a\u202eb")},
        {"title": encode_base64(b"\xff")},
        {"title": ""},
        {"triggers": []},
        {"triggers": ["wren-cat", "wren-cat"]},
        {"triggers": ["<lora:x>"]},
        {"triggers": ["wren-cat"] * 17},
        {"triggers": "wren-cat"},
        {"dp": {}},
        {"pictures": 0},
        {"pictures": 2},
        {"pictures": True},
        {"dp": {**DP, "steps": 0}},
        {"dp": {**DP, "q_ppm": 1_000_001}},
        {"dp": {**DP, "mechanism": "| <b>"}},
        {"dp": {**DP, "unit": "pixel"}},
        {"v": 2},
        {"path": "/home"},
    ],
)
def test_a_manifest_that_breaks_a_rule_is_refused(change: dict[str, object]) -> None:
    """T5, T10, T27: lengths, names that are no slugs, fields that nobody asked for."""
    with pytest.raises(VerificationFailed):
        ContributionManifest.from_body({**MANIFEST.body(), **change})


def test_the_block_fingerprint_is_the_hash_of_the_signs_row_by_row() -> None:
    """T11: memory order does not matter, entries and layer order do."""
    one = np.array([[1, -1], [1, 1], [-1, 1]], dtype=np.int8)
    other = np.array([[1], [-1]], dtype=np.int8)
    wanted = hashlib.sha256(bytes([1, 255, 1, 1, 255, 1]) + bytes([1, 255])).hexdigest()

    assert block_fingerprint([one, other]) == wanted
    assert block_fingerprint(iter([np.asfortranarray(one), other])) == wanted
    assert block_fingerprint([other, one]) != wanted
    assert block_fingerprint([one, -other]) != wanted
