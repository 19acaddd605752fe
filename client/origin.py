"""Where a pull gets its bytes: the federation's coordinator, or any HTTP server with a copy.

An ``Origin`` gives the small files that prove the ledger, signed manifests, and stretches of large
files. Laws: an origin is believed in nothing; it checks what it can about its own answer (no more
and no less than was asked for, of a file as long as the signed manifest says, T16), and the reader
checks hashes and signatures. Here is the one over gRPC; over HTTP it is http_origin.py.
"""

from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from ..core.errors import Refused, VerificationFailed
from ..core.release import CHUNK_BYTES, FileEntry
from ..proto import methods, wire
from .public_source import WireSource

if TYPE_CHECKING:
    from .channel import Channel

_WIRE_STREAMS: Final = 4
"""Calls at once: a coordinator takes as many of one connection and queues the rest."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One file to fetch: of release ``n``, or with ``leaf`` the blob of a contribution.

    ``chunk_bytes``: how long the stretches are that ``entry.chunks`` has the hashes of.
    """

    entry: FileEntry
    n: int = 0
    leaf: int | None = None
    chunk_bytes: int = CHUNK_BYTES

    @classmethod
    def blob(cls, entry: FileEntry, leaf: int) -> "Wanted":
        """Return the blob of the contribution at ``leaf``: one chunk, however long."""
        return cls(entry, leaf=leaf, chunk_bytes=max(1, entry.bytes))

    @property
    def of(self) -> str:
        """What error texts call its owner."""
        return f"release {self.n}" if self.leaf is None else f"contribution {self.leaf}"

    @property
    def tree_name(self) -> str:
        """The file's name in a static tree."""
        if self.leaf is None:
            return release_file(self.n, self.entry.name)
        return contribution_file(self.leaf)

    def wrong(self, what: str) -> VerificationFailed:
        """Return the error for bytes that are not those of the manifest."""
        return VerificationFailed(
            f"{self.entry.name} of {self.of}: {what}",
            why="the manifest is signed, so the other side serves something else",
            fix="run the same command again later, or tell the operator",
            code="download-wrong",
        )


class NoRanges(Refused):
    """An origin gives whole files alone, and a part was asked for."""


class Origin(Protocol):
    """One place that has, or says it has, a federation's public files.

    ``where`` is what error texts call it, ``streams`` how many stretches it gives at once.
    """

    @property
    def where(self) -> str: ...  # noqa: D102  # told above

    @property
    def streams(self) -> int: ...  # noqa: D102  # told above

    def read(self, name: str, most: int) -> bytes:
        """Return a file that proves the ledger; see PublicSource."""
        ...

    def manifest(self, n: int) -> bytes:
        """Return the signed manifest of release ``n``, unchecked."""
        ...

    def stretch(self, wanted: Wanted, offset: int, length: int) -> Generator[bytes]:
        """Give ``length`` bytes of a file from ``offset`` on, in pieces, and no more.

        Raises VerificationFailed: something else was answered. Raises Refused: it is not there.
        Raises NoRanges: only whole files are given. Raises Unreachable: the other side fell silent.
        """
        ...


@dataclass(frozen=True, slots=True)
class WireOrigin:
    """A coordinator, by the calls of the service Releases."""

    channel: "Channel"
    streams: int = _WIRE_STREAMS

    @property
    def where(self) -> str:
        """Host and port."""
        return self.channel.host_port

    def read(self, name: str, most: int) -> bytes:
        """Return a file that proves the ledger; see PublicSource."""
        return WireSource(self.channel).read(name, most)

    def manifest(self, n: int) -> bytes:
        """Return the signed manifest of release ``n``, unchecked."""
        request = wire.ManifestRequest(n)
        return self.channel.call(methods.GET_MANIFEST, request, wire.ManifestReply).document

    def stretch(self, wanted: Wanted, offset: int, length: int) -> Generator[bytes]:
        """Give a stretch of one file; see Origin."""
        end = offset + length
        while offset < end:
            asked = min(methods.READ_BYTES, end - offset)
            reply = self._ask(wanted, offset, asked)
            # T16: neither more nor less than was asked for, of the file that was signed.
            if len(reply.data) != asked or reply.total_bytes != wanted.entry.bytes:
                raise wanted.wrong(
                    f"{len(reply.data)} bytes of {reply.total_bytes} came, "
                    f"{asked} of {wanted.entry.bytes} were asked for"
                )
            yield reply.data
            offset += asked

    def _ask(self, wanted: Wanted, offset: int, length: int) -> wire.ReadReply:
        if wanted.leaf is not None:
            blob = wire.ReadContributionRequest(wanted.leaf, offset, length)
            return self.channel.call(methods.READ_CONTRIBUTION, blob, wire.ReadReply)
        request = wire.ReadRequest(wanted.n, wanted.entry.name, offset, length)
        return self.channel.call(methods.READ, request, wire.ReadReply)


def release_file(n: int, name: str) -> str:
    """Return where a file of release ``n`` lies in a static tree."""
    return f"releases/{n}/{name}"


def contribution_file(leaf: int) -> str:
    """Return where the blob of a public contribution lies in a static tree."""
    return f"contributions/{leaf}.safetensors"
