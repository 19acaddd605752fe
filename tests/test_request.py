"""Signed requests: each check has its own code, cheapest first (security.md 4.4, T2, T3)."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orthofed.core.errors import Refused
from orthofed.core.keys import SigningKey
from orthofed.core.request import RequestHeader, check_request, parse_request, sign_request

KEY = SigningKey.from_seed(bytes([1]) * 32)
LOG, OTHER_LOG = "a9" * 32, "b0" * 32
METHOD = "/orthofed.v1.Federation/Renew"
NOW_S = 1_790_000_000
HEADER, SIGNATURE = sign_request(
    KEY, log=LOG, method=METHOD, body=b"abc", nonce=bytes(range(16)), now_s=NOW_S
)


def _check(
    header: bytes = HEADER,
    signature: bytes = SIGNATURE,
    *,
    log: str = LOG,
    method: str = METHOD,
    body: bytes = b"abc",
    now_s: int = NOW_S,
) -> RequestHeader:
    claim = parse_request(header)
    check_request(claim, signature, log=log, method=method, body=body, now_s=now_s)
    return claim


def test_a_request_tells_who_signed_it() -> None:
    header = _check()

    assert (header.key, header.nonce, header.t) == (KEY.public_hex, bytes(range(16)).hex(), NOW_S)
    assert parse_request(HEADER) == header


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"log": OTHER_LOG}, "wrong-audience"),
        ({"method": "/orthofed.v1.Federation/Lease"}, "wrong-method"),
        ({"body": b"abd"}, "wrong-body"),
        ({"now_s": NOW_S + 61}, "bad-time"),
        ({"now_s": NOW_S - 61}, "bad-time"),
        ({"signature": bytes(64)}, "bad-signature"),
        ({"signature": b""}, "bad-signature"),
        ({"header": b"{}"}, "bad-header"),
        ({"header": HEADER + b" "}, "bad-header"),
        ({"header": b"x" * 1025}, "bad-header"),
    ],
)
def test_a_captured_request_is_good_for_nothing_else(change: dict[str, Any], code: str) -> None:
    """T3: another audience, method, body or time; and what is not signed at all."""
    with pytest.raises(Refused) as refused:
        _check(**change)

    assert refused.value.code == code


def test_60_seconds_either_way_are_allowed() -> None:
    for shift in (-60, 60):
        assert _check(now_s=NOW_S + shift)


def test_every_flipped_byte_of_header_and_signature_is_refused() -> None:
    """T2, T4: as one would expect of a signature."""
    for place in range(len(HEADER)):
        forged = bytearray(HEADER)
        forged[place] ^= 1
        with pytest.raises(Refused):
            _check(bytes(forged))
    for place in range(64):
        forged = bytearray(SIGNATURE)
        forged[place] ^= 1
        with pytest.raises(Refused):
            _check(signature=bytes(forged))


def test_a_request_of_another_version_is_refused() -> None:
    """A new field is a new v, and this reader knows 1."""
    with pytest.raises(Refused) as refused:
        _check(HEADER.replace(b'"v":1', b'"v":2'))

    assert refused.value.code == "bad-header"


@settings(derandomize=True, deadline=None)
@given(st.binary(max_size=1_100), st.binary(max_size=70))
def test_whatever_arrives_is_refused_with_our_own_error(header: bytes, signature: bytes) -> None:
    with pytest.raises(Refused):
        _check(header, signature)


def test_a_header_beyond_1_kib_is_refused_before_it_is_read() -> None:
    """T5: size before parsing, so the error speaks of the size."""
    with pytest.raises(Refused, match="1025 bytes, allowed are 1024"):
        parse_request(b"[" * 1_025)
