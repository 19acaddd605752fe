"""The address of a copy of a federation's public files on an HTTP server, and the log id it is of.

    https://HOST[:PORT]/PATH#LOG          http:// too, on this machine alone
    https://HOST[:PORT]/PATH#LOG?ca=CERTIFICATE

What stands behind ``#`` is never sent. LOG is the log id in hex: it pins everything a consumer
believes, so that the server can be anybody's (T16). CERTIFICATE is the server's CA in DER,
base64url; without it the system's roots are asked (T24). Source: security.md 3 and 4.3.
"""

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from .canonical import decode_base64
from .errors import InputError, VerificationFailed

_TEXT_CHARACTERS: Final = 16 << 10
_PLACE = re.compile(r"https?://[A-Za-z0-9\[][^\s?#\\@]*")
_PIN = re.compile(r"([0-9a-f]{64})(?:\?ca=([A-Za-z0-9_-]+))?")
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, slots=True)
class TreeAddress:
    """Where the tree lies, without a final slash; its log id, "" if unpinned; its CA in DER."""

    url: str
    log: str
    ca: bytes = b""

    @classmethod
    def from_text(cls, text: str, *, pinned: bool = True) -> "TreeAddress":
        """Return the address that a person gave; ``pinned`` False lets the log id be absent.

        >>> TreeAddress.from_text("https://example.org/fed/#" + 64 * "a").url
        'https://example.org/fed'

        Raises InputError: ``no-pin``, ``plain-http`` or ``bad-link``.
        """
        place, _, pin = text.strip().partition("#")
        if len(text) > _TEXT_CHARACTERS or not _PLACE.fullmatch(place):
            raise _bad(f"an address of {len(text)} characters")
        host, secure = _host(place)
        if not secure and host not in _LOOPBACK:  # T24
            raise InputError(
                f"http:// to {host}",
                why="without TLS anybody on the way sees and changes what is fetched",
                fix="use https://",
                code="plain-http",
            )
        if not pin and not pinned:
            return cls(place.rstrip("/"), "")
        found = _PIN.fullmatch(pin)
        if found is None:
            raise _no_pin(place)
        try:
            return cls(place.rstrip("/"), found[1], decode_base64(found[2] or ""))
        except VerificationFailed as error:
            raise _bad("an address with a damaged certificate") from error


def is_tree_address(text: str) -> bool:
    """Return whether ``text`` is meant as an address of an HTTP server."""
    return text.strip().lower().startswith(("http://", "https://"))


def _host(place: str) -> tuple[str, bool]:
    try:
        parts = urlsplit(place)
        host = parts.hostname
        parts.port  # noqa: B018  # a port that is no number, or too large, raises
    except ValueError as error:
        raise _bad("an address with a damaged host or port") from error
    if not host:
        raise _bad("an address without a host")
    return host, parts.scheme == "https"


def _no_pin(place: str) -> InputError:
    return InputError(
        f"{place[:80]} without a log id",
        why="a mirror is anybody's server; only the log id says which federation it has to show",
        fix="append # and the 64 hex digits of the log id, as `orthofed coordinator publish` or the"
        " operator prints them",
        code="no-pin",
    )


def _bad(what: str) -> InputError:
    return InputError(
        f"{what} that cannot be read",
        why="a mirror's address looks like https://HOST/PATH#LOG, LOG being 64 hex digits",
        fix="copy the whole line, with all behind the #",
        code="bad-link",
    )
