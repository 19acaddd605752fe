"""Verifying a pulled folder: any change to any byte or name is refused, and the check is named.

Goal R18 of reliability.md 6; law 8 of formats.md 2. Every case is one good folder with one change.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from orthofed.client.channel import Channel
from orthofed.client.origin import WireOrigin
from orthofed.client.pull import Pull
from orthofed.client.seen_heads import SeenHeads
from orthofed.client.trust import placed, trusted_federation, trusted_receipt
from orthofed.client.verify import verify_folder
from orthofed.core.canonical import decode, encode
from orthofed.core.document import parse, sign
from orthofed.core.errors import SpecError, VerificationFailed
from orthofed.core.keyring import Keyring, log_id
from orthofed.core.keys import SigningKey
from orthofed.core.leaf import release_leaf, spec_leaf

from .mirror import ROOT, Mirror, SignedRelease, files, receipt_of

THIEF = SigningKey.from_seed(b"\x63" * 32)
RELEASE = SignedRelease.of(files())


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder as `orthofed pull` leaves it."""
    out = tmp_path_factory.mktemp("pulled") / "release-1"
    with Mirror(RELEASE) as mirror:
        address = mirror.address
        with Channel(address.host_port, ca=address.ca, log=address.log) as channel:
            Pull(WireOrigin(channel), address.log, out, SeenHeads(out.parent / "home")).run()
    return out


@pytest.fixture
def folder(good: Path, tmp_path: Path) -> Path:
    """Return a copy of the good folder, to be changed."""
    return Path(shutil.copytree(good, tmp_path / "copy"))


def _names(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


NAMES = [
    *RELEASE.files,
    "manifest.json",
    "trust/keyring/1.json",
    "trust/checkpoint",
    "trust/head.json",
    "trust/log",
    "trust/release.proof",
    "trust/spec.json",
    "trust/tile/entries/000.p/3",
]


def test_the_cases_below_cover_every_file(good: Path) -> None:
    """What `pull` writes and what these tests change are the same list."""
    assert _names(good) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_one_flipped_bit_in_any_file_is_refused(name: str, folder: Path) -> None:
    """The lowest and the highest bit, at up to 40 places of each file."""
    path = folder / name
    data = path.read_bytes()
    for place in range(0, len(data), max(1, len(data) // 40)):
        for bit in (0x01, 0x80):
            path.write_bytes(data[:place] + bytes([data[place] ^ bit]) + data[place + 1 :])

            with pytest.raises(VerificationFailed, match="check failed: ") as caught:
                verify_folder(folder)

            assert caught.value.exit_code == 4


@pytest.mark.parametrize("name", NAMES)
def test_a_file_that_is_missing_is_refused(name: str, folder: Path) -> None:
    """Each file of the folder, the proofs too."""
    (folder / name).unlink()

    with pytest.raises(VerificationFailed, match="check failed: "):
        verify_folder(folder)


@pytest.mark.parametrize("change", ["longer", "shorter", "empty"])
@pytest.mark.parametrize("name", NAMES)
def test_a_file_of_another_length_is_refused(name: str, change: str, folder: Path) -> None:
    """One byte more, one byte less, none."""
    data = (folder / name).read_bytes()
    changed = {"longer": data + b"\n", "shorter": data[:-1], "empty": b""}[change]
    (folder / name).write_bytes(changed)

    with pytest.raises(VerificationFailed, match="check failed: "):
        verify_folder(folder)


ADDITIONS: dict[str, Callable[[Path], object]] = {
    "a file at the top": lambda folder: (folder / "note.txt").write_text("x"),
    "a hidden file": lambda folder: (folder / ".x").touch(),
    "a second LoRA": lambda folder: shutil.copy(
        folder / "lora/tiny-r0001.safetensors", folder / "lora/tiny-r0002.safetensors"
    ),
    "a pickle beside the checkpoint": lambda folder: (
        folder / "checkpoint/unet/model.bin"
    ).write_bytes(b"\x80\x04."),
    "a keyring out of order": lambda folder: shutil.copy(
        folder / "trust/keyring/1.json", folder / "trust/keyring/3.json"
    ),
    "the same keyring as the second": lambda folder: shutil.copy(
        folder / "trust/keyring/1.json", folder / "trust/keyring/2.json"
    ),
    "an empty folder": lambda folder: (folder / "extra").mkdir(),
    "a link to a file": lambda folder: (folder / "link").symlink_to(folder / "card.md"),
    "a link to nothing": lambda folder: (folder / "link").symlink_to("/nowhere"),
    "a pipe": lambda folder: os.mkfifo(folder / "pipe"),
    "a file of an unfinished pull": lambda folder: (
        (folder / ".pull").mkdir() or (folder / ".pull" / "log").touch()
    ),
}


@pytest.mark.parametrize("add", ADDITIONS.values(), ids=list(ADDITIONS))
def test_anything_added_is_refused(add: Callable[[Path], object], folder: Path) -> None:
    """One file, folder, link or pipe too many, wherever it is."""
    add(folder)

    with pytest.raises(VerificationFailed, match="check failed: "):
        verify_folder(folder)


def test_a_file_behind_a_link_is_refused_though_its_bytes_are_right(folder: Path) -> None:
    """T10: what verifies must be what a loader reads, also tomorrow."""
    moved = folder.parent / "moved.md"
    (folder / "card.md").rename(moved)
    (folder / "card.md").symlink_to(moved)

    with pytest.raises(VerificationFailed, match="no plain file"):
        verify_folder(folder)


def test_two_files_that_changed_places_are_refused(folder: Path) -> None:
    """Right bytes under wrong names."""
    one, other = folder / "card.md", folder / "info.json"
    data = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(data)

    with pytest.raises(VerificationFailed, match="check failed: file hash"):
        verify_folder(folder)


def _resigned(folder: Path, keys: Sequence[SigningKey], **changes: object) -> None:
    """Sign the manifest anew with ``changes`` in its body."""
    document = parse((folder / "manifest.json").read_bytes(), kind="release")
    forged = sign("release", {**document.body, **changes}, keys)
    (folder / "manifest.json").write_bytes(forged.to_bytes())


def test_a_manifest_signed_by_somebody_else_is_refused(folder: Path) -> None:
    """The same body under a key that the keyring does not name."""
    _resigned(folder, [THIEF])

    with pytest.raises(VerificationFailed, match="check failed: release signature"):
        verify_folder(folder)


def test_a_manifest_that_the_ledger_does_not_hold_is_refused(folder: Path) -> None:
    """T25: the release key is stolen, the ledger is not: another body has no proof."""
    from .mirror import RELEASE as RELEASE_KEY  # noqa: PLC0415  # beside our RELEASE

    _resigned(folder, [RELEASE_KEY], t=1_790_000_999)

    with pytest.raises(VerificationFailed, match="check failed: ledger proof"):
        verify_folder(folder)


def test_a_proof_by_another_ledger_key_is_refused(folder: Path) -> None:
    """A ledger of the thief's own making, with the right leaf in it."""
    release = parse((folder / "manifest.json").read_bytes(), kind="release")
    bodies = [spec_leaf("ab" * 32), release_leaf(manifest=release.id, n=1)]
    forged = receipt_of(bodies, RELEASE.log, key=THIEF)
    (folder / "trust/release.proof").write_bytes(forged)

    with pytest.raises(VerificationFailed, match="check failed: ledger proof"):
        verify_folder(folder)


def test_another_federation_in_the_folder_is_seen_by_its_log_id(folder: Path) -> None:
    """T16: a folder that is whole, but not of the log that the consumer was given."""
    with pytest.raises(VerificationFailed, match="check failed: log id") as caught:
        verify_folder(folder, log="cd" * 32)

    assert caught.value.code == "log-id-failed"


def test_a_keyring_of_a_thief_does_not_hang_on_the_log_id(folder: Path) -> None:
    """A keyring 1 with the thief as root, signed by the thief: it gives another log id."""
    path = folder / "trust/keyring/1.json"
    ring = Keyring.from_body(parse(path.read_bytes(), kind="keyring").body)
    forged = replace(ring, root=(THIEF.public_hex,), release=(THIEF.public_hex,))
    path.write_bytes(sign("keyring", forged.to_body(), [THIEF]).to_bytes())

    with pytest.raises(VerificationFailed, match="check failed: log id"):
        verify_folder(folder)


def test_a_second_keyring_needs_the_roots_of_the_first() -> None:
    """Rotation: signed by its own roots alone it is refused, with the old ones' it is taken."""
    first = parse(RELEASE.reply.keyrings[0], kind="keyring")
    ring = replace(
        Keyring.from_body(first.body), n=2, prev=first.id, root=(THIEF.public_hex,), fresh=60
    )
    stolen = sign("keyring", ring.to_body(), [THIEF]).to_bytes()
    handed = sign("keyring", ring.to_body(), [THIEF, ROOT]).to_bytes()

    with pytest.raises(VerificationFailed, match="check failed: keyring"):
        trusted_federation(RELEASE.log, RELEASE.reply.spec, (first.to_bytes(), stolen))

    trusted = trusted_federation(RELEASE.log, RELEASE.reply.spec, (first.to_bytes(), handed))
    assert trusted.keyring.fresh == 60


def test_a_receipt_of_another_leaf_is_no_receipt_for_a_contribution() -> None:
    """The release's proof is genuine, and still not what the client was promised."""
    reply = RELEASE.reply
    federation = placed(
        trusted_federation(RELEASE.log, reply.spec, reply.keyrings), reply.keyrings, ()
    )

    with pytest.raises(VerificationFailed, match="check failed: receipt: the receipt is of"):
        trusted_receipt(federation, RELEASE.reply.receipt, manifest=RELEASE.reply.document)


def _federation_with(**fields: object) -> tuple[str, bytes, bytes]:
    """Return log id, spec and keyring of a federation whose genuine spec has these fields."""
    body = decode(RELEASE.reply.spec)
    assert isinstance(body, dict)
    spec = encode({**body, **fields})
    ring = Keyring.from_body(parse(RELEASE.reply.keyrings[0], kind="keyring").body)
    fed = hashlib.sha256(spec).hexdigest()
    keyring = sign("keyring", replace(ring, fed=fed).to_body(), [ROOT])
    return log_id(fed, keyring.id), spec, keyring.to_bytes()


def test_an_old_client_is_told_to_upgrade() -> None:
    """A spec of version 2: nobody lied, so it is exit code 2 and a next step, no failed check."""
    log, spec, keyring = _federation_with(v=2, a_field_of_tomorrow=1)

    with pytest.raises(SpecError, match="upgrade orthofed") as caught:
        trusted_federation(log, spec, (keyring,))

    assert caught.value.exit_code == 2


def test_an_unknown_field_under_a_known_version_is_refused() -> None:
    """A new field is a new version (security.md 4.1), so this spec is of nobody's making."""
    log, spec, keyring = _federation_with(a_field_of_tomorrow=1)

    with pytest.raises(VerificationFailed, match="same version on both sides"):
        trusted_federation(log, spec, (keyring,))


def test_a_hostile_name_is_printed_as_text(folder: Path) -> None:
    """T8: escapes and a line end in the name of a file that somebody added stay in one line."""
    (folder / "x\x1b]0;owned\x07\u009b31m\nfix: \u202eall is well").write_bytes(b"")

    done = subprocess.run(
        [sys.executable, "-P", "-m", "orthofed", "verify", str(folder)],
        check=False,
        capture_output=True,
        text=True,
    )

    assert done.returncode == 4
    assert all(line.isprintable() for line in done.stderr.splitlines())
    assert len(done.stderr.splitlines()) == 3
    assert r"x\x1b]0;owned\x07\x9b31m\nfix: \u202eall is well is not part of" in done.stderr


def test_the_command_ends_with_4_and_names_the_check(folder: Path) -> None:
    """`orthofed verify` as a process: text on stderr, one JSON object with --json."""
    command = [sys.executable, "-P", "-m", "orthofed", "verify", str(folder), "--json"]
    good = subprocess.run(command, capture_output=True, text=True, check=False)
    (folder / "card.md").write_bytes(b"# tinY\n")
    bad = subprocess.run(command, capture_output=True, text=True, check=False)

    assert good.returncode == 0, good.stderr
    assert json.loads(good.stdout)["log"] == RELEASE.log
    assert bad.returncode == 4
    assert json.loads(bad.stdout)["error"]["code"] == "file-hash-failed"
    assert "check failed: file hash: card.md" in bad.stderr
