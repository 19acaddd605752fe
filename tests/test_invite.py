"""Invites and links: what a person pastes (security.md 3, T24, T27)."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orthofed.core.address import FederationAddress, is_host_port
from orthofed.core.canonical import encode, encode_base64
from orthofed.core.errors import InputError
from orthofed.core.invite import Invite

LOG, FED = "a9" * 32, "b0" * 32
INVITE = Invite("fed.example.org:7443", bytes(range(200)), 1_800_000_000, FED, LOG, bytes([9]) * 32)
LINK = FederationAddress("127.0.0.1:7443", LOG, bytes(range(100)))


def test_an_invite_survives_its_text_and_the_white_space_around_it() -> None:
    text = INVITE.to_text()

    assert text.startswith("ofi1:")
    assert Invite.from_text(f"  {text}\n") == INVITE
    assert INVITE.address == FederationAddress(INVITE.addr, LOG, INVITE.ca)


def test_an_invite_for_the_systems_roots_has_no_certificate() -> None:
    plain = Invite("fed.example.org:443", b"", 0, FED, LOG, bytes(32))

    assert Invite.from_text(plain.to_text()) == plain


def test_an_invite_does_not_print_its_seed() -> None:
    """T27: whoever has the seed can join."""
    assert "seed" not in repr(INVITE)


def test_every_truncated_invite_is_refused_without_its_text() -> None:
    """A damaged invite is still half a secret: the error does not repeat it."""
    text = INVITE.to_text()
    for end in range(len(text)):
        with pytest.raises(InputError) as refused:
            Invite.from_text(text[:end])
        assert refused.value.code == "bad-invite-text"
        assert text[5:25] not in str(refused.value)


@pytest.mark.parametrize(
    "change",
    [
        {"addr": "nowhere"},
        {"addr": "host:0"},
        {"addr": "user@host:1"},
        {"ca": "AB"},
        {"ca": "A" * 9_000},
        {"ca": 1},
        {"exp": -1},
        {"fed": "x"},
        {"log": "x"},
        {"seed": "00" * 31},
        {"v": 2},
        {"more": 1},
    ],
)
def test_an_invite_with_a_wrong_field_is_refused(change: dict[str, object]) -> None:
    body: dict[str, object] = {
        "addr": "host:1",
        "ca": "",
        "exp": 1,
        "fed": FED,
        "log": LOG,
        "seed": "00" * 32,
        "v": 1,
    }
    assert Invite.from_text("ofi1:" + encode_base64(encode(body)))

    with pytest.raises(InputError):
        Invite.from_text("ofi1:" + encode_base64(encode({**body, **change})))


@settings(derandomize=True, deadline=None)
@given(st.text(max_size=60))
def test_whatever_is_pasted_gives_our_own_error(text: str) -> None:
    for attempt in (text, f"ofi1:{text}", f"orthofed://{text}"):
        with pytest.raises(InputError):
            Invite.from_text(attempt)
        with pytest.raises(InputError):
            FederationAddress.from_text(attempt)


def test_a_link_survives_its_text() -> None:
    assert FederationAddress.from_text(LINK.to_text() + "\n") == LINK
    bare = FederationAddress("[::1]:7443", LOG)
    assert bare.to_text() == f"orthofed://[::1]:7443/{LOG}"
    assert FederationAddress.from_text(bare.to_text()) == bare


@pytest.mark.parametrize(
    "text",
    [
        "",
        f"http://host:1/{LOG}",
        f"orthofed://host/{LOG}",
        f"orthofed://host:99999/{LOG}",
        f"orthofed://host:1/{LOG[:-1]}",
        f"orthofed://host:1/{LOG.upper()}",
        f"orthofed://user@host:1/{LOG}",
        f"orthofed://host:1/{LOG}?ca=",
        f"orthofed://host:1/{LOG}?ca=AB",
        f"orthofed://host:1/{LOG}?ca=AA&x=1",
        f"orthofed://host:1/{LOG}/",
        f"orthofed://host:1/{LOG}?ca=" + "A" * 20_000,
    ],
    ids=range(12),
)
def test_a_link_in_another_form_is_refused(text: str) -> None:
    with pytest.raises(InputError) as refused:
        FederationAddress.from_text(text)

    assert refused.value.code == "bad-link"


@pytest.mark.parametrize("text", ["h:1", "a.b-c.de:65535", "127.0.0.1:80", "[2001:db8::1]:443"])
def test_a_host_with_its_port_is_taken(text: str) -> None:
    assert is_host_port(text)


@pytest.mark.parametrize(
    "text",
    ["", ":1", "h:", "h:0", "h:01", "h:65536", "h h:1", "-h:1", "h-:1", "h:1\n", "::1:1", "h/x:1"],
)
def test_another_host_or_port_is_refused(text: str) -> None:
    assert not is_host_port(text)
