"""The invite: the text that lets one data owner join, and pins what they join.

    ofi1: + base64url(CJ{addr, ca, exp, fed, log, seed, v})

``seed`` is an Ed25519 seed: whoever has it can join, so the text is a secret. The coordinator keeps
only its public key; neither its database nor a TLS proxy can spend an invite (T1).
Law: ``from_text(to_text())`` gives the same value; the text has one spelling.
Source: security.md 3. Not here: uses, quota and expiry, which the coordinator decides.
"""

from dataclasses import dataclass, field
from typing import Final

from .address import FederationAddress, is_host_port
from .canonical import decode_base64, encode_base64
from .errors import InputError
from .fields import Fields, bad_field
from .keys import SigningKey
from .secret_word import read_word, written_word

PREFIX: Final = "ofi1:"
_CA_CHARACTERS: Final = 8 << 10


@dataclass(frozen=True, slots=True)
class Invite:
    """Address, CA certificate (DER; empty = system roots), expiry, the two ids, the secret seed."""

    addr: str
    ca: bytes
    exp: int
    fed: str
    log: str
    seed: bytes = field(repr=False)

    @property
    def key(self) -> SigningKey:
        """The key that signs the join proof."""
        return SigningKey(self.seed)

    @property
    def address(self) -> FederationAddress:
        """The public part: what anyone may know."""
        return FederationAddress(self.addr, self.log, self.ca)

    def to_text(self) -> str:
        """Return the invite as one word to paste."""
        body: dict[str, object] = {
            "addr": self.addr,
            "ca": encode_base64(self.ca),
            "exp": self.exp,
            "fed": self.fed,
            "log": self.log,
            "seed": self.seed.hex(),
            "v": 1,
        }
        return written_word(PREFIX, body)

    @classmethod
    def from_text(cls, text: str) -> "Invite":
        """Return the invite that a person pasted; its text is never repeated in an error (T27).

        Raises InputError ``bad-invite-text``.
        """
        return read_word(text, PREFIX, cls._from_body, bad=_bad)

    @classmethod
    def _from_body(cls, body: object) -> "Invite":
        fields = Fields(body, "an invite", need=("addr", "ca", "exp", "fed", "log", "seed", "v"))
        fields.version()
        addr, ca = fields.text("addr"), fields.raw("ca")
        if not is_host_port(addr) or not isinstance(ca, str) or len(ca) > _CA_CHARACTERS:
            raise bad_field("`addr` or `ca` of an invite is of another form")
        return cls(
            addr=addr,
            ca=decode_base64(ca),
            exp=fields.integer("exp"),
            fed=fields.hex("fed"),
            log=fields.hex("log"),
            seed=bytes.fromhex(fields.hex("seed")),
        )


def _bad(what: str) -> InputError:
    return InputError(
        f"an invite {what} cannot be read",
        why=f"an invite is one word that starts with {PREFIX}",
        fix="copy the whole line that `orthofed coordinator invite` printed",
        code="bad-invite-text",
    )
