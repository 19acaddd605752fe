"""The messages of the service ``Contributions``: an upload, what became of it, a withdrawal."""

from dataclasses import dataclass
from typing import Final, Literal, Self, cast, get_args

from orthofed.proto.v1 import contributions_pb2

from . import checks, methods

State = Literal[
    "leased",
    "lost",
    "pending",
    "accepted",
    "quarantined",
    "rejected",
    "withdrawn",
    "superseded",
]
"""What a lease has come to, in the order of ``LeaseState`` from 1."""

_STATES: Final = cast("tuple[State, ...]", get_args(State))

_DOCUMENT: Final = 16 << 10

_HASH: Final = 32

_UPLOAD_ID: Final = 16


@dataclass(frozen=True, slots=True)
class BeginRequest:
    """One client announces a contribution: signed manifest, chunks' SHA-256, wraps if private."""

    document: bytes
    chunks: tuple[bytes, ...]
    wraps: bytes = b""

    def to_bytes(self) -> bytes:
        """Return the message."""
        return contributions_pb2.BeginRequest(
            document=self.document, chunks=self.chunks, wraps=self.wraps
        ).SerializeToString()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Return the value, or raise InputError."""
        m = checks.parse(contributions_pb2.BeginRequest(), data, methods.BEGIN.request_bytes)
        checks.check_few("chunks", len(m.chunks), 1, methods.MAX_CHUNKS)
        return cls(
            document=checks.data_of("document", m.document, 1, _DOCUMENT),
            chunks=tuple(checks.data_of("a chunk hash", c, _HASH, _HASH) for c in m.chunks),
            wraps=checks.data_of("wraps", m.wraps, 0, checks.WRAPS),
        )


@dataclass(frozen=True, slots=True)
class BeginReply:
    """Where the upload stands; ``have`` is a bitmap, lowest bit first."""

    upload_id: bytes
    have: bytes
    receipt: bytes

    def to_bytes(self) -> bytes:
        """Return the message."""
        return contributions_pb2.BeginReply(
            upload_id=self.upload_id, have=self.have, receipt=self.receipt
        ).SerializeToString()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Return the value, or raise InputError."""
        m = checks.parse(contributions_pb2.BeginReply(), data, methods.REPLY_BYTES)
        return cls(
            upload_id=checks.data_of("upload_id", m.upload_id, _UPLOAD_ID, _UPLOAD_ID),
            have=checks.data_of("have", m.have, 0, methods.MAX_CHUNKS // 8),
            receipt=checks.data_of("receipt", m.receipt, 0, checks.RECEIPT),
        )


@dataclass(frozen=True, slots=True)
class PutRequest:
    """One chunk of the blob."""

    upload_id: bytes
    index: int
    data: bytes

    def to_bytes(self) -> bytes:
        """Return the message."""
        return contributions_pb2.PutRequest(
            upload_id=self.upload_id, index=self.index, data=self.data
        ).SerializeToString()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Return the value, or raise InputError."""
        m = checks.parse(contributions_pb2.PutRequest(), data, methods.PUT.request_bytes)
        return cls(
            upload_id=checks.data_of("upload_id", m.upload_id, _UPLOAD_ID, _UPLOAD_ID),
            index=checks.number("index", m.index, 0, methods.MAX_CHUNKS - 1),
            data=checks.data_of("data", m.data, 1, methods.CHUNK_BYTES),
        )


@dataclass(frozen=True, slots=True)
class PutReply:
    """How many chunks are whole now."""

    num_whole: int

    def to_bytes(self) -> bytes:
        """Return the message."""
        return contributions_pb2.PutReply(num_whole=self.num_whole).SerializeToString()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Return the value, or raise InputError."""
        m = checks.parse(contributions_pb2.PutReply(), data, methods.REPLY_BYTES)
        return cls(num_whole=checks.number("num_whole", m.num_whole, 0, methods.MAX_CHUNKS))


@dataclass(frozen=True, slots=True)
class CommitRequest:
    """One client says that all chunks are there."""

    upload_id: bytes

    def to_bytes(self) -> bytes:
        """Return the message."""
        return contributions_pb2.CommitRequest(upload_id=self.upload_id).SerializeToString()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Return the value, or raise InputError."""
        m = checks.parse(contributions_pb2.CommitRequest(), data, methods.COMMIT.request_bytes)
        return cls(upload_id=checks.data_of("upload_id", m.upload_id, _UPLOAD_ID, _UPLOAD_ID))


@dataclass(frozen=True, slots=True)
class CommitReply:
    """The receipt, or the chunks that have to come first; exactly one is not empty."""

    receipt: bytes = b""
    missing: tuple[int, ...] = ()

    def to_bytes(self) -> bytes:
        """Return the message."""
        if self.receipt:
            return contributions_pb2.CommitReply(receipt=self.receipt).SerializeToString()
        missing = contributions_pb2.MissingChunks(indexes=self.missing)
        return contributions_pb2.CommitReply(missing=missing).SerializeToString()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Return the value, or raise InputError."""
        m = checks.parse(contributions_pb2.CommitReply(), data, methods.REPLY_BYTES)
        if m.WhichOneof("outcome") == "receipt":
            return cls(receipt=checks.data_of("receipt", m.receipt, 1, checks.RECEIPT))
        indexes = tuple(m.missing.indexes)
        checks.check_few("missing chunks", len(indexes), 1, methods.MAX_CHUNKS)
        if list(indexes) != sorted(set(indexes)) or indexes[-1] >= methods.MAX_CHUNKS:
            raise checks.malformed("missing chunks that do not ascend or do not exist")
        return cls(missing=indexes)


@dataclass(frozen=True, slots=True)
class StatusRequest:
    """One client asks about its lease; slot and fence 0: about whichever its key has."""

    slot: int
    fence: int

    def to_bytes(self) -> bytes:
        """Return the message."""
        return contributions_pb2.StatusRequest(slot=self.slot, fence=self.fence).SerializeToString()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Return the value, or raise InputError."""
        m = checks.parse(contributions_pb2.StatusRequest(), data, methods.STATUS.request_bytes)
        if m.fence == 0:
            return cls(checks.number("slot", m.slot, 0, 0), 0)
        return cls(*checks.slot_and_fence(m.slot, m.fence))


@dataclass(frozen=True, slots=True)
class StatusReply:
    """What a lease has come to; ``leaf`` is 0 and ``receipt`` empty when nothing is committed."""

    state: State
    why: str = ""
    leaf: int = 0
    receipt: bytes = b""

    def to_bytes(self) -> bytes:
        """Return the message."""
        return contributions_pb2.StatusReply(
            state=contributions_pb2.LeaseState.ValueType(_STATES.index(self.state) + 1),
            why=self.why,
            leaf=self.leaf,
            receipt=self.receipt,
        ).SerializeToString()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Return the value, or raise InputError."""
        m = checks.parse(contributions_pb2.StatusReply(), data, methods.REPLY_BYTES)
        return cls(
            state=_STATES[checks.number("state", int(m.state), 1, len(_STATES)) - 1],
            why=checks.text("why", m.why, checks.TEXT),
            leaf=checks.number("leaf", m.leaf, 0, checks.FENCE),
            receipt=checks.data_of("receipt", m.receipt, 0, checks.RECEIPT),
        )


@dataclass(frozen=True, slots=True)
class WithdrawRequest:
    """One contributor takes its contribution out; ``document`` is the ``withdrawal`` document."""

    document: bytes

    def to_bytes(self) -> bytes:
        """Return the message."""
        return contributions_pb2.WithdrawRequest(document=self.document).SerializeToString()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Return the value, or raise InputError."""
        m = checks.parse(contributions_pb2.WithdrawRequest(), data, methods.WITHDRAW.request_bytes)
        return cls(document=checks.data_of("document", m.document, 1, 2 << 10))


@dataclass(frozen=True, slots=True)
class WithdrawReply:
    """The receipt of the withdrawal's own leaf."""

    receipt: bytes

    def to_bytes(self) -> bytes:
        """Return the message."""
        return contributions_pb2.WithdrawReply(receipt=self.receipt).SerializeToString()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Return the value, or raise InputError."""
        m = checks.parse(contributions_pb2.WithdrawReply(), data, methods.REPLY_BYTES)
        return cls(receipt=checks.data_of("receipt", m.receipt, 1, checks.RECEIPT))
