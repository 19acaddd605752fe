"""The public key of a Flower node, as OpenSSH writes it: one line, one spelling.

Law: ECDSA on one of the NIST curves that Flower takes, a point of that curve; the comment, which is
where tools write a user's and a machine's name, is not part of it. The key names a node and gives
no right in the federation: members sign with Ed25519 keys (keys.py).
Source: flower.md 1 (identity); RFC 5656, section 3.1.
"""

from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_ssh_public_key,
)

from .errors import InputError

MOST_CHARACTERS: Final = 512
"""The longest line; a key on P-521 takes 252."""
_KINDS: Final = ("ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521")


def node_key(line: str) -> str:
    """Return the key in its one spelling, from a line of an OpenSSH ``.pub`` file.

    Raises InputError (``bad-node-key``): another kind of key, several lines, or no key at all.
    """
    words = line.split()
    if len(line) > MOST_CHARACTERS + 256 or len(words) < 2 or words[0] not in _KINDS:  # noqa: PLR2004  # kind, key
        raise _bad(f"a node key of {len(line)} characters that is no ECDSA key")
    text = " ".join(words[:2])
    try:
        key = load_ssh_public_key(text.encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _bad("a node key whose bytes are no point of its curve") from error
    if not isinstance(key, EllipticCurvePublicKey):
        raise _bad("a node key of another kind than it says")
    if key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode("ascii") != text:
        raise _bad("a node key in another spelling than OpenSSH's")
    return text


def _bad(what: str) -> InputError:
    return InputError(
        what,
        why=f"a Flower node is known by one OpenSSH line of {', '.join(_KINDS)}",
        fix='make one with ssh-keygen -t ecdsa -b 384 -N "" -C "" -f node, and send node.pub',
        code="bad-node-key",
    )
