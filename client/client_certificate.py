"""A client's own TLS certificate, for coordinators that ask for one before they listen.

It is one more door in front and no identity here: requests are signed in every case. One PEM file
holds the private key and the chain; `orthofed client join --client-certificate FILE` keeps it in
the home, mode 0600. Source: security.md 3 (TLS). Not here: who signs such certificates.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from ..core.errors import InputError

_BLOCK: Final = re.compile(
    rb"-----BEGIN ([A-Z0-9 ]+)-----\r?\n.*?-----END \1-----\r?\n?", re.DOTALL
)
_MOST_BYTES: Final = 64 << 10


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """Key and chain in PEM, as gRPC takes them."""

    key: bytes = field(repr=False)
    chain: bytes

    @classmethod
    def parse(cls, data: bytes) -> "ClientCertificate":
        """Return the certificate of a PEM file.

        Raises InputError: there is not one private key and its own certificate, or a passphrase.
        """
        blocks = [(found[1], found[0]) for found in _BLOCK.finditer(data[:_MOST_BYTES])]
        keys = [block for kind, block in blocks if kind.endswith(b"PRIVATE KEY")]
        chain = b"".join(block for kind, block in blocks if kind == b"CERTIFICATE")
        if len(keys) != 1 or not chain:
            raise _bad(f"{len(keys)} private keys and {len(blocks) - len(keys)} other PEM blocks")
        try:
            private = load_pem_private_key(keys[0], password=None).public_key()
            public = x509.load_pem_x509_certificate(chain).public_key()
        except (ValueError, TypeError) as error:
            raise _bad("a key or a certificate that cannot be read") from error
        if _raw(private) != _raw(public):
            raise _bad("a first certificate that is of another key")
        return cls(keys[0], chain)

    def to_pem(self) -> bytes:
        """Return the file that ``parse`` reads."""
        return self.key + self.chain


def read_certificate(path: Path) -> ClientCertificate:
    """Return the certificate of the PEM file at ``path``; raises InputError."""
    return ClientCertificate.parse(path.read_bytes())


def _raw(key: object) -> bytes:
    public_bytes = getattr(key, "public_bytes", None)
    if public_bytes is None:
        raise _bad("a key of an unknown kind")
    return public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _bad(what: str) -> InputError:
    return InputError(
        f"the client certificate has {what}",
        why="it is one PEM file with one private key, without passphrase, and its certificates",
        fix="ask the operator for the file, or join key and certificate: cat key.pem cert.pem",
        code="bad-client-certificate",
    )
