"""The coordinator's Ed25519 keys at rest: PKCS#8 files, mode 0600, in ``keys/`` of mode 0700.

``ledger`` signs checkpoints and is online; ``release`` signs manifests and is read by the command
``release`` alone; ``root`` signs keyrings and belongs on another machine: serve never reads it
(security.md 3). Laws: a key that others can read is not used, as ssh does it; after a rotation old
and new lie side by side, and the keyring says which one is meant, so a crash between key file and
ledger leaf changes nothing. Keys are never in logs, in the database or in backups of it.
"""

import contextlib
import stat
from collections.abc import Collection
from pathlib import Path
from typing import Literal

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ..core.errors import InputError
from ..core.keys import SigningKey
from .fs import Fs

Role = Literal["ledger", "release", "root"]


def save_key(keys: Path, role: Role, key: SigningKey, *, fs: Fs) -> None:
    """Write the first key of a role durably."""
    write_key(keys / f"{role}.pem", key, fs=fs)


def save_next_key(keys: Path, role: Role, key: SigningKey, *, fs: Fs) -> None:
    """Write a key that comes after the first, beside it; its name says which one it is."""
    write_key(keys / f"{role}-{key.public_hex[:16]}.pem", key, fs=fs)


def write_key(path: Path, key: SigningKey, *, fs: Fs) -> None:
    """Write one key durably, for its owner alone."""
    private = Ed25519PrivateKey.from_private_bytes(key.seed)
    pem = private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    fs.write_whole(path, pem, mode=0o600)


def load_key(keys: Path, role: Role) -> SigningKey:
    """Return the first key of a role; raise InputError when it is missing or no Ed25519 key."""
    return read_key(keys / f"{role}.pem")


def find_key(keys: Path, role: Role, allowed: Collection[str]) -> SigningKey:
    """Return the key of a role whose public half is one of ``allowed``.

    Raises InputError: none of the files is, or one is open to others.
    """
    check_closed(keys, 0o700)
    for path in key_files(keys, role):
        found = read_key(path)
        if found.public_hex in allowed:
            return found
    named = " or ".join(f"{public[:16]}..." for public in sorted(allowed))
    raise InputError(
        f"no {role} key {named} in {keys}",
        why="the newest keyring names it, and signatures by another one are refused by everybody",
        fix=f"put its file back as {keys / f'{role}.pem'}; if it is lost, docs/keys.md says what"
        " to do",
        code="bad-key-file",
    )


def key_files(keys: Path, role: Role) -> list[Path]:
    """Return the files of a role, the first key first."""
    first = keys / f"{role}.pem"
    return [path for path in (first, *sorted(keys.glob(f"{role}-*.pem"))) if path.is_file()]


def read_key(path: Path) -> SigningKey:
    """Return the key of one file; raise InputError when it is none, or open to others."""
    try:
        check_closed(path, 0o600)
        private = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except FileNotFoundError as error:
        raise _bad_key_file(path, "is missing") from error
    except (ValueError, TypeError) as error:
        raise _bad_key_file(path, "cannot be read as a key without a password") from error
    if not isinstance(private, Ed25519PrivateKey):
        raise _bad_key_file(path, "is no Ed25519 key")
    raw = private.private_bytes(
        serialization.Encoding.Raw,
        serialization.PrivateFormat.Raw,
        serialization.NoEncryption(),
    )
    return SigningKey.from_seed(raw)


def check_closed(path: Path, allowed: int) -> None:
    """Refuse a file or folder of keys that others can enter or read.

    Raises InputError ``key-open``, with the command that closes it.
    """
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise InputError(
            f"{path} has mode {mode:04o}, allowed is {allowed:04o}",
            why="whoever reads a key can sign in the federation's name",
            fix=f"run chmod {allowed:o} {path}, and ask who could read it so far: docs/keys.md",
            code="key-open",
        )


def check_all_closed(keys: Path) -> None:
    """Refuse the folder of keys when it, or any file in it, is open to others."""
    check_closed(keys, 0o700)
    for path in sorted(keys.iterdir()):
        if path.suffix in (".pem", ".key") and b"PRIVATE KEY" in _start(path):
            check_closed(path, 0o600)


def _start(path: Path) -> bytes:
    with contextlib.suppress(OSError), path.open("rb") as file:
        return file.read(64)
    return b"PRIVATE KEY"  # what cannot be looked at is held to be one


def _bad_key_file(path: Path, what: str) -> InputError:
    return InputError(
        f"{path.name} {what}",
        why="without it the coordinator cannot sign",
        fix=f"put the key back at {path}",
        code="bad-key-file",
    )
