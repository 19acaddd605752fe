"""The messages of the service ``Federation``: joining, leases, what everybody reads first."""

from dataclasses import dataclass
from typing import Final, Self

from orthofed.proto.v1 import federation_pb2

from ..core.bounds import MOST, Bounds
from ..core.layer import MAX_WIDTH
from ..core.spec_parts import MAX_SPEC_BYTES
from . import checks, methods

_CHECKPOINT: Final = 16 << 10

_VECTORS: Final = 64

_WEEK_S: Final = 604_800
_MOST_TOTAL: Final = 1_000_000_000


def _proofs(values: tuple[bytes, ...]) -> tuple[bytes, ...]:
    checks.check_few("keyring proofs", len(values), 0, checks.KEYRINGS - 1)
    return tuple(checks.data_of("a keyring proof", value, 1, checks.RECEIPT) for value in values)


@dataclass(frozen=True, slots=True)
class SpecRequest:
    """Asks for the federation's public documents."""

    def to_bytes(self) -> bytes:
        """Return the message."""
        return federation_pb2.SpecRequest().SerializeToString()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Return the value, or raise InputError."""
        checks.parse(federation_pb2.SpecRequest(), data, methods.GET_SPEC.request_bytes)
        return cls()


@dataclass(frozen=True, slots=True)
class SpecReply:
    """The federation's public documents."""

    spec: bytes
    keyrings: tuple[bytes, ...]
    checkpoint: bytes
    base_hint: str
    free_slots: int
    norm_percent: int = 0
    embedding_percent: int = 0
    budget_percent: int = 0
    keyring_proofs: tuple[bytes, ...] = ()

    def to_bytes(self) -> bytes:
        """Return the message."""
        return federation_pb2.SpecReply(
            spec=self.spec,
            keyrings=self.keyrings,
            checkpoint=self.checkpoint,
            base_hint=self.base_hint,
            free_slots=self.free_slots,
            norm_percent=self.norm_percent,
            embedding_percent=self.embedding_percent,
            budget_percent=self.budget_percent,
            keyring_proofs=self.keyring_proofs,
        ).SerializeToString()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Return the value, or raise InputError."""
        m = checks.parse(federation_pb2.SpecReply(), data, methods.REPLY_BYTES)
        return cls(
            spec=checks.data_of("spec", m.spec, 1, MAX_SPEC_BYTES),
            keyrings=checks.keyrings(tuple(m.keyrings)),
            checkpoint=checks.data_of("checkpoint", m.checkpoint, 1, _CHECKPOINT),
            base_hint=checks.text("base_hint", m.base_hint, checks.TEXT),
            free_slots=checks.number("free_slots", m.free_slots, 0, MAX_WIDTH),
            norm_percent=checks.number("norm_percent", m.norm_percent, 0, MOST),
            embedding_percent=checks.number("embedding_percent", m.embedding_percent, 0, MOST),
            budget_percent=checks.number("budget_percent", m.budget_percent, 0, MOST),
            keyring_proofs=_proofs(tuple(m.keyring_proofs)),
        )

    @property
    def bounds(self) -> Bounds | None:
        """What one contribution may weigh; None from a coordinator that does not say."""
        told = (self.norm_percent, self.embedding_percent, self.budget_percent)
        return Bounds(*told) if all(told) else None


@dataclass(frozen=True, slots=True)
class JoinRequest:
    """One member key asks to be let in; ``proof`` is the ``join`` document."""

    proof: bytes

    def to_bytes(self) -> bytes:
        """Return the message."""
        return federation_pb2.JoinRequest(proof=self.proof).SerializeToString()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Return the value, or raise InputError."""
        m = checks.parse(federation_pb2.JoinRequest(), data, methods.JOIN.request_bytes)
        return cls(proof=checks.data_of("proof", m.proof, 1, 2 << 10))


@dataclass(frozen=True, slots=True)
class JoinReply:
    """The member key is registered, durably."""

    def to_bytes(self) -> bytes:
        """Return the message."""
        return federation_pb2.JoinReply().SerializeToString()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Return the value, or raise InputError."""
        checks.parse(federation_pb2.JoinReply(), data, methods.REPLY_BYTES)
        return cls()


@dataclass(frozen=True, slots=True)
class LeaseRequest:
    """One member asks for a slot; ``document`` is the ``lease`` document."""

    document: bytes
    vectors: tuple[int, ...]

    def to_bytes(self) -> bytes:
        """Return the message."""
        return federation_pb2.LeaseRequest(
            document=self.document, vectors=self.vectors
        ).SerializeToString()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Return the value, or raise InputError."""
        m = checks.parse(federation_pb2.LeaseRequest(), data, methods.LEASE.request_bytes)
        checks.check_few("vector counts", len(m.vectors), 1, _VECTORS)
        return cls(
            document=checks.data_of("document", m.document, 1, 4 << 10),
            vectors=tuple(checks.number("vectors", v, 1, _VECTORS) for v in m.vectors),
        )


@dataclass(frozen=True, slots=True)
class LeaseReply:
    """The granted slot."""

    slot: int
    fence: int
    ttl_s: int
    hold_s: int

    def to_bytes(self) -> bytes:
        """Return the message."""
        return federation_pb2.LeaseReply(
            slot=self.slot, fence=self.fence, ttl_s=self.ttl_s, hold_s=self.hold_s
        ).SerializeToString()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Return the value, or raise InputError."""
        m = checks.parse(federation_pb2.LeaseReply(), data, methods.REPLY_BYTES)
        slot, fence = checks.slot_and_fence(m.slot, m.fence)
        return cls(slot, fence, ttl_s=checks.number("ttl_s", m.ttl_s, 1, _WEEK_S), hold_s=m.hold_s)


@dataclass(frozen=True, slots=True)
class RotateRequest:
    """One member changes its key; ``document`` is the ``rotation`` document."""

    document: bytes

    def to_bytes(self) -> bytes:
        """Return the message."""
        return federation_pb2.RotateRequest(document=self.document).SerializeToString()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Return the value, or raise InputError."""
        m = checks.parse(federation_pb2.RotateRequest(), data, methods.ROTATE.request_bytes)
        return cls(document=checks.data_of("document", m.document, 1, 2 << 10))


@dataclass(frozen=True, slots=True)
class RotateReply:
    """The new member key has the old one's place."""

    def to_bytes(self) -> bytes:
        """Return the message."""
        return federation_pb2.RotateReply().SerializeToString()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Return the value, or raise InputError."""
        checks.parse(federation_pb2.RotateReply(), data, methods.REPLY_BYTES)
        return cls()


@dataclass(frozen=True, slots=True)
class RenewRequest:
    """One client says that it is still training."""

    slot: int
    fence: int
    progress: int
    total: int = 0

    def to_bytes(self) -> bytes:
        """Return the message."""
        return federation_pb2.RenewRequest(
            slot=self.slot, fence=self.fence, progress=self.progress, total=self.total
        ).SerializeToString()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Return the value, or raise InputError."""
        m = checks.parse(federation_pb2.RenewRequest(), data, methods.RENEW.request_bytes)
        slot, fence = checks.slot_and_fence(m.slot, m.fence)
        total = checks.number("total", m.total, 0, _MOST_TOTAL)
        return cls(slot, fence, progress=m.progress, total=total)


@dataclass(frozen=True, slots=True)
class RenewReply:
    """How long the lease now lasts."""

    ttl_s: int
    held_s: int

    def to_bytes(self) -> bytes:
        """Return the message."""
        return federation_pb2.RenewReply(ttl_s=self.ttl_s, held_s=self.held_s).SerializeToString()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Return the value, or raise InputError."""
        m = checks.parse(federation_pb2.RenewReply(), data, methods.REPLY_BYTES)
        return cls(ttl_s=checks.number("ttl_s", m.ttl_s, 0, _WEEK_S), held_s=m.held_s)


@dataclass(frozen=True, slots=True)
class GiveBackRequest:
    """One client gives its slot back unused."""

    slot: int
    fence: int

    def to_bytes(self) -> bytes:
        """Return the message."""
        return federation_pb2.GiveBackRequest(slot=self.slot, fence=self.fence).SerializeToString()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Return the value, or raise InputError."""
        m = checks.parse(federation_pb2.GiveBackRequest(), data, methods.GIVE_BACK.request_bytes)
        return cls(*checks.slot_and_fence(m.slot, m.fence))


@dataclass(frozen=True, slots=True)
class GiveBackReply:
    """The slot is free again."""

    def to_bytes(self) -> bytes:
        """Return the message."""
        return federation_pb2.GiveBackReply().SerializeToString()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Return the value, or raise InputError."""
        checks.parse(federation_pb2.GiveBackReply(), data, methods.REPLY_BYTES)
        return cls()
