"""The release manifest and the names of its files (security.md 4.8, 7, T10, T16)."""

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orthofed.core.document import sign
from orthofed.core.errors import VerificationFailed
from orthofed.core.keys import SigningKey
from orthofed.core.names import DEVICES
from orthofed.core.release import (
    CHUNK_BYTES,
    FileEntry,
    ReleaseManifest,
    check_complete,
    check_release_name,
)

HASH = "ab" * 32
MANIFEST = ReleaseManifest(
    contributions=((2, 1024), (5, 600)),
    fed="03" * 32,
    files=(
        FileEntry("checkpoint/unet/model.safetensors", CHUNK_BYTES + 1, HASH, (HASH, HASH)),
        FileEntry("info.json", 3, HASH, (HASH,)),
    ),
    left_out=((3, "quarantined"), (4, "withdrawn")),
    log="04" * 32,
    n=2,
    prev="05" * 32,
    size=6,
    t=1_790_000_000,
)
ENTRY = {"bytes": 3, "chunks": [HASH], "name": "info.json", "sha256": HASH}


def test_a_manifest_survives_its_body() -> None:
    signed = sign("release", MANIFEST.body(), [SigningKey.from_seed(bytes(32))])

    assert ReleaseManifest.from_document(signed) == MANIFEST
    with pytest.raises(VerificationFailed, match="kind `release`"):
        ReleaseManifest.from_document(dataclasses.replace(signed, kind="head"))


@pytest.mark.parametrize(
    "change",
    [
        {"contributions": [{"lambda": 1, "leaf": 5}, {"lambda": 1, "leaf": 2}]},
        {"contributions": [{"lambda": 1, "leaf": 2}, {"lambda": 1, "leaf": 2}]},
        {"contributions": [{"lambda": 1, "leaf": 3}]},
        {"contributions": [{"lambda": 1, "leaf": 6}]},
        {"contributions": [{"lambda": 2049, "leaf": 2}]},
        {"contributions": [{"lambda": -1, "leaf": 2}]},
        {"left_out": [{"leaf": 3, "why": "disliked"}]},
        {"left_out": [{"leaf": 4, "why": "private"}, {"leaf": 3, "why": "private"}]},
        {"left_out": [{"leaf": 6, "why": "private"}]},
        {"files": [ENTRY, ENTRY]},
        {"files": [ENTRY, {**ENTRY, "name": "card.md"}]},
        {"files": [{**ENTRY, "name": "info.json"}, {**ENTRY, "name": "info.json/x"}]},
        {"files": [{**ENTRY, "name": "../info.json"}]},
        {"files": [{**ENTRY, "chunks": []}]},
        {"files": [{**ENTRY, "chunks": [HASH, HASH]}]},
        {"files": [{**ENTRY, "chunks": ["x"]}]},
        {"files": [{**ENTRY, "bytes": -1}]},
        {"files": [{**ENTRY, "sha256": "x"}]},
        {"files": [{**ENTRY, "url": "x"}]},
        {"merge": 2},
        {"n": 1},
        {"n": 0},
        {"prev": "0" * 64},
        {"v": 2},
        {"more": 1},
    ],
)
def test_a_manifest_that_breaks_a_rule_is_refused(change: dict[str, object]) -> None:
    """T16: order, duplicates, both lists at once, lengths without hashes, a broken chain."""
    with pytest.raises(VerificationFailed):
        ReleaseManifest.from_body({**MANIFEST.body(), **change})


def test_an_empty_file_has_no_chunk() -> None:
    entry = FileEntry("added.txt", 0, HASH, ())

    assert ReleaseManifest.from_body(dataclasses.replace(MANIFEST, files=(entry,)).body())


def test_nothing_is_dropped_in_silence() -> None:
    """Every contribution leaf below `size` is in one of the lists; later ones are not asked for."""
    check_complete(MANIFEST, [2, 3, 4, 5, 6, 9])

    for leaves in ([2, 3, 4], [1, 2, 3, 4, 5], []):
        with pytest.raises(VerificationFailed):
            check_complete(MANIFEST, leaves)


@pytest.mark.parametrize(
    "name", ["a", "info.json", "lora/peeps-r0001.safetensors", "checkpoint/unet/_x.y", "a" * 80]
)
def test_a_plain_name_is_taken(name: str) -> None:
    check_release_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "/",
        "/etc/passwd",
        "..",
        "../x",
        "a/../b",
        "a/./b",
        ".hidden",
        "a..b",
        "a.",
        "a/b.",
        "a//b",
        "a/",
        "a/b/c/d",
        "a\\b",
        "c:x",
        "A",
        "a b",
        "a\n",
        "a\x00",
        "\u0430",
        "a" * 81,
        "-a",
        "~a",
        "%2e%2e",
        "a" * 1_000_000,
    ],
    ids=range(26),
)
def test_a_hostile_name_is_refused(name: str) -> None:
    """T10: no way out of the folder, no second spelling, on any system."""
    with pytest.raises(VerificationFailed):
        check_release_name(name)


def test_device_names_are_refused_with_any_extension() -> None:
    for device in DEVICES:
        for name in (device, f"{device}.json", f"embeddings/{device}.safetensors", f"{device}/x"):
            with pytest.raises(VerificationFailed):
                check_release_name(name)


@settings(derandomize=True, deadline=None, max_examples=200)
@given(st.text(alphabet="ab./\\:-_ ~A\x00\u00e9", max_size=20))
def test_a_name_that_is_taken_never_leaves_its_folder(name: str) -> None:
    """T10: whatever passes has only plain parts."""
    try:
        check_release_name(name)
    except VerificationFailed:
        return

    parts = name.split("/")
    assert len(parts) <= 3
    assert all(part and part not in {".", ".."} and part.isascii() for part in parts)
    assert not set(name) & set("\\: ~A\x00")
