"""The public address of a federation: where it is, and the log id that says which one it is.

    orthofed://HOST:PORT/LOG?ca=CERTIFICATE

LOG is the log id in hex, CERTIFICATE the CA's DER in base64url; without ``ca`` the system's roots
are asked. It holds no secret, gives no right, and pins everything a consumer believes (T16, T24).
Law: ``from_text(to_text())`` gives the same value. Source: security.md 3 and 4.3.
"""

import re
from dataclasses import dataclass
from typing import Final

from .canonical import decode_base64, encode_base64
from .errors import InputError, VerificationFailed

_URL = re.compile(r"orthofed://([^/?#@]+)/([0-9a-f]{64})(?:\?ca=([A-Za-z0-9_-]+))?")
_HOST_PORT = re.compile(
    r"(?P<host>[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\])"
    r":(?P<port>[1-9][0-9]{0,4})"
)
_LARGEST_PORT: Final = 65_535
_TEXT_CHARACTERS: Final = 16 << 10


@dataclass(frozen=True, slots=True)
class FederationAddress:
    """Host and port, log id (hex), CA certificate (DER; empty = the system's roots)."""

    host_port: str
    log: str
    ca: bytes = b""

    def to_text(self) -> str:
        """Return the URL."""
        ca = f"?ca={encode_base64(self.ca)}" if self.ca else ""
        return f"orthofed://{self.host_port}/{self.log}{ca}"

    @classmethod
    def from_text(cls, text: str) -> "FederationAddress":
        """Return the address that a person pasted.

        Raises InputError ``bad-link``.
        """
        found = _URL.fullmatch(text.strip()) if len(text) <= _TEXT_CHARACTERS else None
        if found is None or not is_host_port(found[1]):
            raise _bad_link(f"an address of {len(text)} characters")
        try:
            ca = decode_base64(found[3] or "")
        except VerificationFailed as error:
            raise _bad_link("an address with a damaged certificate") from error
        return cls(found[1], found[2], ca)


def is_host_port(text: str) -> bool:
    """Return whether ``text`` is ``HOST:PORT``, with an IPv6 address in brackets.

    >>> is_host_port("[::1]:7443"), is_host_port("example.org")
    (True, False)
    """
    found = _HOST_PORT.fullmatch(text)
    return found is not None and int(found["port"]) <= _LARGEST_PORT


def bracketed(host: str) -> str:
    """Return the host as it stands before a port: an IPv6 address in brackets.

    >>> bracketed("::1"), bracketed("[::1]"), bracketed("example.org")
    ('[::1]', '[::1]', 'example.org')
    """
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def _bad_link(what: str) -> InputError:
    return InputError(
        f"{what} that cannot be read",
        why="it looks like orthofed://HOST:PORT/LOG?ca=CERTIFICATE, LOG being 64 hex digits",
        fix="copy the whole line that `orthofed coordinator link` printed",
        code="bad-link",
    )
