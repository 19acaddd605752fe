"""A consumer's key for private contributions: an X25519 key in a PKCS#8 file of mode 0600.

Law: a file that is there is never written over, since what was sealed for its key would be lost.
Source: security.md 3. Not here: the public half as text (core/recipient.py).
"""

import os
from collections.abc import Iterable
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from ..core.errors import InputError
from ..core.recipient import Recipient
from .home import sync_folder, told_when_full
from .secret_file import read_secret


def new_recipient(path: Path) -> Recipient:
    """Make a key, write it to ``path``, and return its public half.

    Raises InputError: there is such a file already.
    """
    private = X25519PrivateKey.generate()
    pem = private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except FileExistsError as error:
        raise InputError(
            f"{path} is there already",
            why="what was sealed for the key in it could never be opened again",
            fix="choose another file name",
            code="recipient-key-exists",
        ) from error
    with told_when_full(path, wanted=len(pem)), os.fdopen(handle, "wb") as file:
        file.write(pem)
        file.flush()
        os.fsync(file.fileno())
    sync_folder(path.absolute().parent)
    return public_half(private)


def load_recipient(path: Path) -> X25519PrivateKey:
    """Return the private key of a file.

    Raises InputError: it is missing, open to others, or no X25519 key.
    """
    pem = read_secret(
        path, why="whoever reads it can open what was sealed for it", code="recipient-key"
    )
    try:
        private = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError):
        private = None
    if not isinstance(private, X25519PrivateKey):
        raise InputError(
            f"{path} holds no recipient key",
            why="it is a PKCS#8 file with an X25519 key and no password",
            fix="give the file that `orthofed recipient new` made",
            code="recipient-key-damaged",
        ) from None
    return private


def recipients(named: Iterable[str]) -> tuple[Recipient, ...]:
    """Return the recipients that a person named: each an ``ofr1:`` word, or a file of them.

    Raises InputError: one is neither.
    """
    words = [
        word
        for text in named
        for word in ([text] if text.startswith("ofr1:") else _words(Path(text)))
    ]
    return tuple(Recipient.from_text(word) for word in words)


def _words(path: Path) -> list[str]:
    try:
        found = path.read_text("utf-8").split()
    except (OSError, UnicodeDecodeError):
        found = []
    if not found:
        raise InputError(
            f"{path} names no recipient",
            why="it is no file of recipients, one a line, and no word that starts with ofr1:",
            fix="give the line that `orthofed recipient new` printed, or a file of such lines",
            code="bad-recipient",
        )
    return found


def public_half(private: X25519PrivateKey) -> Recipient:
    """Return what data owners are given."""
    return Recipient(private.public_key().public_bytes_raw())
