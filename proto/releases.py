"""The messages of the service ``Releases``: manifests, files and contributions, piece by piece."""

from dataclasses import dataclass
from typing import Final, Self

from orthofed.proto.v1 import releases_pb2

from ..core.spec_parts import MAX_SPEC_BYTES
from . import checks, methods

_MANIFEST: Final = 1 << 20

_NAME: Final = 255

_RELEASES: Final = 65_536


@dataclass(frozen=True, slots=True)
class ListRequest:
    """Asks which releases exist."""

    def to_bytes(self) -> bytes:
        """Return the message."""
        return releases_pb2.ListRequest().SerializeToString()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Return the value, or raise InputError."""
        checks.parse(releases_pb2.ListRequest(), data, methods.LIST_RELEASES.request_bytes)
        return cls()


@dataclass(frozen=True, slots=True)
class ListReply:
    """The releases that exist; ``newest`` is 0 when there is none."""

    releases: tuple[int, ...]
    newest: int

    def to_bytes(self) -> bytes:
        """Return the message."""
        return releases_pb2.ListReply(
            releases=self.releases, newest=self.newest
        ).SerializeToString()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Return the value, or raise InputError."""
        m = checks.parse(releases_pb2.ListReply(), data, methods.REPLY_BYTES)
        releases = tuple(m.releases)
        checks.check_few("releases", len(releases), 0, _RELEASES)
        if list(releases) != sorted(set(releases)) or 0 in releases:
            raise checks.malformed("release numbers that do not ascend from 1")
        if m.newest != (releases[-1] if releases else 0):
            raise checks.malformed(f"newest release {m.newest}, which is not the last one listed")
        return cls(releases, m.newest)


@dataclass(frozen=True, slots=True)
class ManifestRequest:
    """Asks for one manifest; 0 is the newest."""

    n: int = 0

    def to_bytes(self) -> bytes:
        """Return the message."""
        return releases_pb2.ManifestRequest(n=self.n).SerializeToString()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Return the value, or raise InputError."""
        m = checks.parse(releases_pb2.ManifestRequest(), data, methods.GET_MANIFEST.request_bytes)
        return cls(m.n)


@dataclass(frozen=True, slots=True)
class ManifestReply:
    """A release's manifest with its proof."""

    document: bytes
    receipt: bytes
    spec: bytes
    keyrings: tuple[bytes, ...]

    def to_bytes(self) -> bytes:
        """Return the message."""
        return releases_pb2.ManifestReply(
            document=self.document,
            receipt=self.receipt,
            spec=self.spec,
            keyrings=self.keyrings,
        ).SerializeToString()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Return the value, or raise InputError."""
        m = checks.parse(releases_pb2.ManifestReply(), data, methods.REPLY_BYTES)
        return cls(
            document=checks.data_of("document", m.document, 1, _MANIFEST),
            receipt=checks.data_of("receipt", m.receipt, 1, checks.RECEIPT),
            spec=checks.data_of("spec", m.spec, 1, MAX_SPEC_BYTES),
            keyrings=checks.keyrings(tuple(m.keyrings)),
        )


@dataclass(frozen=True, slots=True)
class ReadRequest:
    """Asks for one piece of one file of a release."""

    n: int
    name: str
    offset: int
    length: int

    def to_bytes(self) -> bytes:
        """Return the message."""
        return releases_pb2.ReadRequest(
            n=self.n, name=self.name, offset=self.offset, length=self.length
        ).SerializeToString()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Return the value, or raise InputError."""
        m = checks.parse(releases_pb2.ReadRequest(), data, methods.READ.request_bytes)
        return cls(
            n=m.n,
            name=checks.text("name", m.name, _NAME),
            offset=m.offset,
            length=checks.number("length", m.length, 1, methods.READ_BYTES),
        )


_FIRST_FIELD: Final = b"\x0a"
"""The tag of a field 1 that holds bytes."""


@dataclass(frozen=True, slots=True)
class PublicRequest:
    """Asks for one piece of one public file of the ledger."""

    name: str
    offset: int
    length: int

    def to_bytes(self) -> bytes:
        """Return the message."""
        return releases_pb2.PublicRequest(
            name=self.name, offset=self.offset, length=self.length
        ).SerializeToString()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Return the value, or raise InputError."""
        m = checks.parse(releases_pb2.PublicRequest(), data, methods.READ_PUBLIC.request_bytes)
        name = checks.text("a file name", m.name, _NAME)
        return cls(name, m.offset, checks.number("a length", m.length, 1, methods.READ_BYTES))


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:  # noqa: PLR2004  # seven bits a byte, the lowest first
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


@dataclass(frozen=True, slots=True)
class ReadReply:
    """One piece of one file."""

    data: bytes
    total_bytes: int

    def to_bytes(self) -> bytes:
        """Return the message; ``data`` is written beside protobuf, which would copy it thrice.

        Messages laid end to end are one message, and these are the very bytes protobuf writes:
        .1 ms for a MiB instead of 1.2.
        """
        rest = releases_pb2.ReadReply(total_bytes=self.total_bytes).SerializeToString()
        if not self.data:
            return rest
        return b"".join((_FIRST_FIELD, _varint(len(self.data)), self.data, rest))

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Return the value, or raise InputError."""
        m = checks.parse(releases_pb2.ReadReply(), data, methods.REPLY_BYTES)
        return cls(
            data=checks.data_of("data", m.data, 0, methods.READ_BYTES), total_bytes=m.total_bytes
        )


@dataclass(frozen=True, slots=True)
class ContributionRequest:
    """Asks for one contribution by its ledger leaf."""

    leaf: int

    def to_bytes(self) -> bytes:
        """Return the message."""
        return releases_pb2.ContributionRequest(leaf=self.leaf).SerializeToString()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Return the value, or raise InputError."""
        m = checks.parse(
            releases_pb2.ContributionRequest(), data, methods.GET_CONTRIBUTION.request_bytes
        )
        return cls(checks.number("leaf", m.leaf, 0, checks.FENCE))


@dataclass(frozen=True, slots=True)
class ContributionReply:
    """The receipt of a contribution's leaf, which holds the signed manifest; wraps if private."""

    receipt: bytes
    wraps: bytes = b""

    def to_bytes(self) -> bytes:
        """Return the message."""
        return releases_pb2.ContributionReply(
            receipt=self.receipt, wraps=self.wraps
        ).SerializeToString()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Return the value, or raise InputError."""
        m = checks.parse(releases_pb2.ContributionReply(), data, methods.REPLY_BYTES)
        return cls(
            receipt=checks.data_of("receipt", m.receipt, 1, checks.RECEIPT),
            wraps=checks.data_of("wraps", m.wraps, 0, checks.WRAPS),
        )


@dataclass(frozen=True, slots=True)
class ReadContributionRequest:
    """Asks for one piece of one contribution's blob."""

    leaf: int
    offset: int
    length: int

    def to_bytes(self) -> bytes:
        """Return the message."""
        return releases_pb2.ReadContributionRequest(
            leaf=self.leaf, offset=self.offset, length=self.length
        ).SerializeToString()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Return the value, or raise InputError."""
        limit = methods.READ_CONTRIBUTION.request_bytes
        m = checks.parse(releases_pb2.ReadContributionRequest(), data, limit)
        return cls(
            leaf=checks.number("leaf", m.leaf, 0, checks.FENCE),
            offset=m.offset,
            length=checks.number("length", m.length, 1, methods.READ_BYTES),
        )
