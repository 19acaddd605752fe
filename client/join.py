"""Makes this home a member of a federation by the word of an invite.

    invite -> spec and keyrings, checked against its federation and log ids -> Join -> home

Law: what the invite says is pinned; a coordinator that shows another spec, keyring or certificate
is refused with exit code 4 and nothing is kept. The invite's secret never leaves: its key signs the
new member key. Joining again with the same home is safe and spends nothing. Source: security.md 3.
"""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from ..core import document
from ..core.address import FederationAddress
from ..core.errors import InputError, VerificationFailed
from ..core.invite import Invite
from ..core.keys import SigningKey
from ..proto import methods, wire
from .channel import Channel
from .client_certificate import read_certificate
from .home import Home, Membership
from .masters import Masters
from .outbox import Outbox
from .pinned import ask_federation
from .trust import TrustedFederation


@dataclass(frozen=True, slots=True)
class Joined:
    """The federation that this home now belongs to."""

    membership: Membership
    federation: TrustedFederation
    free_slots: int  # the coordinator's word of this moment


def join(
    home: Home,
    invite_text: str,
    *,
    url: str | None,
    patience_s: float,
    certificate: Path | None = None,
) -> Joined:
    """Register this home's member key and keep what was pinned.

    ``url`` overrides the invite's address, never its ids. ``certificate``: a PEM file with the TLS
    certificate and key that this home shows from now on, where the coordinator asks for one.

    Raises InputError: invite, URL or certificate cannot be read, or the home belongs to another
    federation. Raises Refused: the invite is not good. Raises VerificationFailed: the coordinator
    is not the one that the invite names.
    """
    invite = Invite.from_text(invite_text.strip())
    host_port = _host_port(url, invite) if url else invite.addr
    membership = Membership(host_port, invite.ca, invite.fed, invite.log)
    shown = None if certificate is None else read_certificate(certificate)
    with home.lock():
        _refuse_second(home, membership)
        outbox = Outbox(home.folder / "outbox.jsonl")
        with Channel(
            host_port,
            ca=invite.ca,
            log=invite.log,
            outbox=outbox,
            certificate=shown or home.certificate(),
            patience_s=patience_s,
        ) as channel:
            told = ask_federation(home, channel, invite.log)
            reply, federation = told.reply, told.federation
            if federation.spec.id != invite.fed:
                raise VerificationFailed(
                    f"spec {federation.spec.id[:16]}..., the invite names {invite.fed[:16]}...",
                    why="the coordinator trains something else than you were invited to",
                    fix="ask the operator for a new invite, by a way you trust",
                    code="other-spec",
                )
            _register(channel, invite, Masters(home).newest().member(invite.log))
        if shown is not None:
            home.keep_certificate(shown)
        home.join(membership, spec=reply.spec, keyrings=reply.keyrings)
    return Joined(membership, federation, min(reply.free_slots, federation.spec.capacity))


def _register(channel: Channel, invite: Invite, member: SigningKey) -> None:
    key = SigningKey.from_seed(invite.seed)
    body: dict[str, object] = {
        "invite": key.public_hex,
        "log": invite.log,
        "member": member.public_hex,
        "v": 1,
    }
    proof = document.sign("join", body, [key]).to_bytes()
    channel.call(methods.JOIN, wire.JoinRequest(proof), wire.JoinReply, key=member)


def _host_port(url: str, invite: Invite) -> str:
    if url.startswith("orthofed://"):
        address = FederationAddress.from_text(url)
        if address.log != invite.log:
            raise _bad_url(url, "it is a link to another federation than the invite's")
        return address.host_port
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = None
    if parts.scheme != "https" or not parts.hostname or port is None or parts.path not in ("", "/"):
        raise _bad_url(url, "it has another form")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{host}:{port}"


def _bad_url(url: str, why: str) -> InputError:
    return InputError(
        f"{url} is no address of the invite's coordinator",
        why=why,
        fix="give https://HOST:PORT or the link of the operator, or leave it away",
        code="bad-address",
    )


def _refuse_second(home: Home, wanted: Membership) -> None:
    if not (home.folder / "federation.json").exists():
        return
    if home.membership().log != wanted.log:
        raise InputError(
            f"{home.folder} belongs to the federation {home.membership().fed[:16]}...",
            why="one home is a member of one federation",
            fix="give this federation a home of its own with --home",
            code="home-of-another",
        )
