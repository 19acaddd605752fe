"""The coordinator's Ed25519 keys at rest: PKCS#8 files, mode 0600, in ``keys/``.

``ledger`` signs checkpoints and is online; ``release`` signs manifests and is read by the command
``release`` alone; ``root`` signs keyrings and belongs on another machine: serve never reads it
(security.md 3). Keys are never in logs, in the database or in backups of it.
"""

from pathlib import Path
from typing import Literal

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ..core.errors import InputError
from ..core.keys import SigningKey
from .fs import Fs

Role = Literal["ledger", "release", "root"]


def save_key(keys: Path, role: Role, key: SigningKey, *, fs: Fs) -> None:
    """Write one key durably."""
    private = Ed25519PrivateKey.from_private_bytes(key.seed)
    pem = private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    fs.write_whole(keys / f"{role}.pem", pem, mode=0o600)


def load_key(keys: Path, role: Role) -> SigningKey:
    """Return one key; raise InputError when it is missing or no Ed25519 key."""
    path = keys / f"{role}.pem"
    try:
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


def _bad_key_file(path: Path, what: str) -> InputError:
    return InputError(
        f"{path.name} {what}",
        why="without it the coordinator cannot sign",
        fix=f"put the key back at {path}",
        code="bad-key-file",
    )
