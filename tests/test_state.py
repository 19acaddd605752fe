"""Saved sessions: two generations, believed only with matching hashes (reliability.md 5)."""

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from orthofed.client.session import Session
from orthofed.client.state import BLOB, MANIFEST, load, save
from orthofed.core.errors import InputError

NEW = Session("anna-k7", ("anna-k7", "anna-dress"), (2, 3), 'a "person"', "aa" * 16, 4)
LEASED = replace(NEW, phase="leased", slot=3, fence=7, ttl_s=900, hold_s=86_400)


def test_a_session_comes_back_as_it_was(tmp_path: Path) -> None:
    """Every field, also text that canonical JSON cannot hold as it is."""
    session = replace(LEASED, why='slot 3: "taken"\nby somebody')

    save(tmp_path, session)

    assert load(tmp_path) == session


def test_no_save_is_no_session(tmp_path: Path) -> None:
    """An empty folder, and one that does not exist."""
    assert load(tmp_path) is None
    assert load(tmp_path / "none") is None


def test_a_damaged_save_falls_back_to_the_one_before(tmp_path: Path) -> None:
    """Any flipped byte of the newest generation: the older one is used."""
    save(tmp_path, NEW)
    save(tmp_path, LEASED)
    data = (tmp_path / "state.json").read_bytes()

    for place in range(len(data)):
        flipped = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        (tmp_path / "state.json").write_bytes(flipped)

        assert load(tmp_path) == NEW


def test_a_kill_between_the_two_renames_leaves_the_older_one(tmp_path: Path) -> None:
    """The newest generation has become the older one, the next is not there yet."""
    save(tmp_path, NEW)
    (tmp_path / "state.json").rename(tmp_path / "state.old.json")

    assert load(tmp_path) == NEW

    save(tmp_path, LEASED)
    assert load(tmp_path) == LEASED


def test_a_damaged_save_does_not_push_out_a_good_one(tmp_path: Path) -> None:
    """The good older generation survives the next save."""
    save(tmp_path, NEW)
    save(tmp_path, LEASED)
    (tmp_path / "state.json").write_bytes(b"rot")

    save(tmp_path, LEASED)
    (tmp_path / "state.json").write_bytes(b"rot")

    assert load(tmp_path) == NEW


def test_a_session_whose_files_changed_is_not_believed(tmp_path: Path) -> None:
    """Packed is a promise about bytes: without them the phase before counts."""
    save(tmp_path, replace(LEASED, phase="trained"))
    blob, manifest = b"blob", b"manifest"
    (tmp_path / BLOB).write_bytes(blob)
    (tmp_path / MANIFEST).write_bytes(manifest)
    hashes = (hashlib.sha256(data).hexdigest() for data in (blob, manifest))
    packed = replace(LEASED, phase="packed", **dict(zip(("blob", "document"), hashes, strict=True)))
    save(tmp_path, packed)
    assert load(tmp_path) == packed

    (tmp_path / BLOB).write_bytes(b"bloB")

    found = load(tmp_path)
    assert found is not None
    assert found.phase == "trained"


def test_two_damaged_saves_are_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    """Starting over in silence could lose a lease: the owner decides."""
    save(tmp_path, NEW)
    save(tmp_path, LEASED)
    (tmp_path / "state.json").write_bytes(b"rot")
    (tmp_path / "state.old.json").write_bytes(b"rot")

    with pytest.raises(InputError, match="does not match its hashes") as caught:
        load(tmp_path)

    assert caught.value.code == "state-damaged"


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b"{}",
        b'{"files":{},"session":{},"v":1}',
        b'{"files":{},"session":{"phase":"leased"},"v":1}',
        b'{"files":{"../other":"' + b"0" * 64 + b'"},"session":{},"v":1}',
        b'{"files":[],"session":7,"v":1}',
    ],
)
def test_a_save_of_another_shape_is_damage_though_its_hash_fits(
    tmp_path: Path, body: bytes
) -> None:
    """Written by another version, or by hand: told as what it is, not as a fault."""
    digest = hashlib.sha256(body).hexdigest().encode()
    (tmp_path / "state.json").write_bytes(body + b"\n" + digest + b"\n")

    with pytest.raises(InputError) as refused:
        load(tmp_path)

    assert refused.value.code == "state-damaged"
