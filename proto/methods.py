"""The calls of the wire contract: path, who signs, how large, how long.

One record a call, from the table in security.md 5. The coordinator refuses by it before it parses
anything (T5), the client takes its deadlines from it. Sizes are bytes of the message in its gRPC
frame; compression is off, so they are also what travels. Not here: rates (coordinator/auth.py) and
the roles' own checks (coordinator/service.py).
"""

from dataclasses import dataclass
from typing import Final, Literal

Signer = Literal["nobody", "member", "client"]

CHUNK_BYTES: Final = 262_144
"""The length of each chunk of a contribution but the last."""
READ_BYTES: Final = 1 << 20
"""The most that one Read of a release file gives."""
MESSAGE_BYTES: Final = 320 << 10
"""The largest message that the coordinator receives."""
REPLY_BYTES: Final = 4 << 20
"""The largest message that a client receives."""
METADATA_BYTES: Final = 8 << 10
"""The most metadata of one call."""
CLOCK_SKEW_S: Final = 60
"""How far the time of a signed request may be from the coordinator's."""
MAX_ORDERS: Final = 64
"""The open orders of one member."""
MOST_LOSS: Final = 1_000_000_000
"""The largest loss that a score may say, in millionths."""
MAX_CHUNKS: Final = 2_048
"""The chunks of the largest contribution: 512 MiB."""

AUTH_KEY: Final = "orthofed-auth-bin"
"""Metadata: the canonical header of a signed request."""
SIGNATURE_KEY: Final = "orthofed-sig-bin"
"""Metadata: 64 bytes, the signature over that header."""
CODE_KEY: Final = "orthofed-code"
"""Trailer: the stable code of a refusal."""
NOW_KEY: Final = "orthofed-now"
"""Trailer: the coordinator's Unix seconds, when a request's time was refused."""
RETRY_KEY: Final = "orthofed-retry-after"
"""Trailer: seconds to wait before the next try, in decimal."""


@dataclass(frozen=True, slots=True)
class Method:
    """One call: gRPC path, request limit in bytes, deadline in seconds, who signs it."""

    path: str
    request_bytes: int
    deadline_s: int
    signer: Signer


def _method(service: str, name: str, request_bytes: int, deadline_s: int, signer: Signer) -> Method:
    return Method(f"/orthofed.v1.{service}/{name}", request_bytes, deadline_s, signer)


GET_SPEC: Final = _method("Federation", "GetSpec", 1 << 10, 10, "nobody")
JOIN: Final = _method("Federation", "Join", 4 << 10, 5, "member")
LEASE: Final = _method("Federation", "Lease", 8 << 10, 5, "member")
ROTATE: Final = _method("Federation", "Rotate", 4 << 10, 5, "member")
RENEW: Final = _method("Federation", "Renew", 4 << 10, 5, "client")
GIVE_BACK: Final = _method("Federation", "GiveBack", 4 << 10, 5, "client")
BEGIN: Final = _method("Contributions", "Begin", 192 << 10, 20, "client")
PUT: Final = _method("Contributions", "Put", CHUNK_BYTES + (1 << 10), 20, "client")
COMMIT: Final = _method("Contributions", "Commit", 8 << 10, 60, "client")
STATUS: Final = _method("Contributions", "Status", 4 << 10, 5, "client")
WITHDRAW: Final = _method("Contributions", "Withdraw", 4 << 10, 5, "client")
ORDERS: Final = _method("Fleet", "Orders", 1 << 10, 5, "member")
FLEET_KEY: Final = _method("Fleet", "FleetKey", 1 << 10, 5, "member")
SCORE: Final = _method("Fleet", "Score", 1 << 10, 5, "member")
LIST_RELEASES: Final = _method("Releases", "ListReleases", 1 << 10, 10, "nobody")
GET_MANIFEST: Final = _method("Releases", "GetManifest", 1 << 10, 10, "nobody")
READ: Final = _method("Releases", "Read", 1 << 10, 20, "nobody")
GET_CONTRIBUTION: Final = _method("Releases", "GetContribution", 1 << 10, 10, "nobody")
READ_CONTRIBUTION: Final = _method("Releases", "ReadContribution", 1 << 10, 20, "nobody")
READ_PUBLIC: Final = _method("Releases", "ReadPublic", 1 << 10, 20, "nobody")

METHODS: Final = (
    GET_SPEC,
    JOIN,
    LEASE,
    ROTATE,
    RENEW,
    GIVE_BACK,
    BEGIN,
    PUT,
    COMMIT,
    STATUS,
    WITHDRAW,
    ORDERS,
    FLEET_KEY,
    SCORE,
    LIST_RELEASES,
    GET_MANIFEST,
    READ,
    GET_CONTRIBUTION,
    READ_CONTRIBUTION,
    READ_PUBLIC,
)
SERVICES: Final = (
    "orthofed.v1.Federation",
    "orthofed.v1.Contributions",
    "orthofed.v1.Fleet",
    "orthofed.v1.Releases",
)
