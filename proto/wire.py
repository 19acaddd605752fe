"""The messages of the wire contract as checked, frozen values.

Law: bytes in, value out, or InputError("malformed"). Size first, then structure, then each bound
that proto/v1 states for a single field (T5, T8); what a field *means* is for its reader to check.
``to_bytes`` and ``from_bytes`` undo each other. This module alone sees generated messages: the
gRPC shells move bytes, since signatures cover what arrived (security.md 4.4).
Unknown fields are ignored: the signed documents inside have their own, strict reader.
Source: house-style.md 2, rules 21 to 23.
"""

from dataclasses import dataclass
from typing import Final, Literal, Self, TypeVar, cast, get_args

from google.protobuf.message import DecodeError, Message

from orthofed.proto.v1 import contributions_pb2, federation_pb2, orders_pb2, releases_pb2

from ..core.bounds import MOST, Bounds
from ..core.errors import InputError
from ..core.layer import MAX_WIDTH
from ..core.names import slug
from ..core.node_key import MOST_CHARACTERS
from . import methods

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

OrderKind = Literal["train", "score", "withdraw"]
"""What an order asks for, in the order of ``OrderKind`` in proto/v1 from 1."""

_STATES: Final = cast("tuple[State, ...]", get_args(State))
_ORDER_KINDS: Final = cast("tuple[OrderKind, ...]", get_args(OrderKind))
_DOCUMENT: Final = 16 << 10
_RECEIPT: Final = 32 << 10
_SPEC: Final = 1 << 20
_MANIFEST: Final = 1 << 20
_KEYRING: Final = 8 << 10
_KEYRINGS: Final = 64
_CHECKPOINT: Final = 16 << 10
_TEXT: Final = 1_024
_NAME: Final = 255
_VECTORS: Final = 64
_RELEASES: Final = 65_536
_HASH: Final = 32
_UPLOAD_ID: Final = 16
_WRAPS: Final = 64 * 80
_WEEK_S: Final = 604_800
_ORDER_ID: Final = 16
_CONCEPT: Final = 31
_MOST_SCORED: Final = 1_000_000
_MOST_INT32: Final = (1 << 31) - 1

_M = TypeVar("_M", bound=Message)


def malformed(what: str) -> InputError:
    """Return the error for bytes or values that break the contract."""
    return InputError(
        what,
        why="the wire contract does not allow it",
        fix="use an orthofed of the same version on both sides",
        code="malformed",
    )


def _parse(message: _M, data: bytes, limit: int) -> _M:
    # T5: size before structure.
    if len(data) > limit:
        raise malformed(f"a message of {len(data)} bytes, allowed are {limit}")
    try:
        message.ParseFromString(data)
    except (DecodeError, UnicodeDecodeError) as error:
        raise malformed("a message that cannot be parsed") from error
    return message


def _bytes(name: str, value: bytes, low: int, high: int) -> bytes:
    if not low <= len(value) <= high:
        raise malformed(f"{name} of {len(value)} bytes, allowed are {low} to {high}")
    return value


def _number(name: str, value: int, low: int, high: int) -> int:
    if not low <= value <= high:
        raise malformed(f"{name} {value}, allowed are {low} to {high}")
    return value


def _text(name: str, value: str, high: int) -> str:
    if len(value) > high or any(ord(c) < ord(" ") and c != "\n" for c in value):
        raise malformed(f"{name} of {len(value)} characters, allowed are {high} printable ones")
    return value


def _few(name: str, num: int, low: int, high: int) -> None:
    if not low <= num <= high:
        raise malformed(f"{num} {name}, allowed are {low} to {high}")


def _documents(values: tuple[bytes, ...]) -> tuple[bytes, ...]:
    _few("keyrings", len(values), 1, _KEYRINGS)
    return tuple(_bytes("a keyring", value, 1, _KEYRING) for value in values)


def _proofs(values: tuple[bytes, ...]) -> tuple[bytes, ...]:
    _few("keyring proofs", len(values), 0, _KEYRINGS - 1)
    return tuple(_bytes("a keyring proof", value, 1, _RECEIPT) for value in values)


_FENCE: Final = (1 << 53) - 1
"""Fences stand in signed JSON, whose integers end here."""


def _slot_and_fence(slot: int, fence: int) -> tuple[int, int]:
    return slot, _number("fence", fence, 1, _FENCE)


@dataclass(frozen=True, slots=True)
class SpecRequest:
    """Asks for the federation's public documents."""

    def to_bytes(self) -> bytes:
        """Return the message."""
        return federation_pb2.SpecRequest().SerializeToString()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Return the value, or raise InputError."""
        _parse(federation_pb2.SpecRequest(), data, methods.GET_SPEC.request_bytes)
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
        m = _parse(federation_pb2.SpecReply(), data, methods.REPLY_BYTES)
        return cls(
            spec=_bytes("spec", m.spec, 1, _SPEC),
            keyrings=_documents(tuple(m.keyrings)),
            checkpoint=_bytes("checkpoint", m.checkpoint, 1, _CHECKPOINT),
            base_hint=_text("base_hint", m.base_hint, _TEXT),
            free_slots=_number("free_slots", m.free_slots, 0, MAX_WIDTH),
            norm_percent=_number("norm_percent", m.norm_percent, 0, MOST),
            embedding_percent=_number("embedding_percent", m.embedding_percent, 0, MOST),
            budget_percent=_number("budget_percent", m.budget_percent, 0, MOST),
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
        m = _parse(federation_pb2.JoinRequest(), data, methods.JOIN.request_bytes)
        return cls(proof=_bytes("proof", m.proof, 1, 2 << 10))


@dataclass(frozen=True, slots=True)
class JoinReply:
    """The member key is registered, durably."""

    def to_bytes(self) -> bytes:
        """Return the message."""
        return federation_pb2.JoinReply().SerializeToString()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Return the value, or raise InputError."""
        _parse(federation_pb2.JoinReply(), data, methods.REPLY_BYTES)
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
        m = _parse(federation_pb2.LeaseRequest(), data, methods.LEASE.request_bytes)
        _few("vector counts", len(m.vectors), 1, _VECTORS)
        return cls(
            document=_bytes("document", m.document, 1, 4 << 10),
            vectors=tuple(_number("vectors", v, 1, _VECTORS) for v in m.vectors),
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
        m = _parse(federation_pb2.LeaseReply(), data, methods.REPLY_BYTES)
        slot, fence = _slot_and_fence(m.slot, m.fence)
        return cls(slot, fence, ttl_s=_number("ttl_s", m.ttl_s, 1, _WEEK_S), hold_s=m.hold_s)


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
        m = _parse(federation_pb2.RotateRequest(), data, methods.ROTATE.request_bytes)
        return cls(document=_bytes("document", m.document, 1, 2 << 10))


@dataclass(frozen=True, slots=True)
class RotateReply:
    """The new member key has the old one's place."""

    def to_bytes(self) -> bytes:
        """Return the message."""
        return federation_pb2.RotateReply().SerializeToString()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Return the value, or raise InputError."""
        _parse(federation_pb2.RotateReply(), data, methods.REPLY_BYTES)
        return cls()


@dataclass(frozen=True, slots=True)
class RenewRequest:
    """One client says that it is still training."""

    slot: int
    fence: int
    progress: int

    def to_bytes(self) -> bytes:
        """Return the message."""
        return federation_pb2.RenewRequest(
            slot=self.slot, fence=self.fence, progress=self.progress
        ).SerializeToString()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Return the value, or raise InputError."""
        m = _parse(federation_pb2.RenewRequest(), data, methods.RENEW.request_bytes)
        slot, fence = _slot_and_fence(m.slot, m.fence)
        return cls(slot, fence, progress=m.progress)


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
        m = _parse(federation_pb2.RenewReply(), data, methods.REPLY_BYTES)
        return cls(ttl_s=_number("ttl_s", m.ttl_s, 0, _WEEK_S), held_s=m.held_s)


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
        m = _parse(federation_pb2.GiveBackRequest(), data, methods.GIVE_BACK.request_bytes)
        return cls(*_slot_and_fence(m.slot, m.fence))


@dataclass(frozen=True, slots=True)
class GiveBackReply:
    """The slot is free again."""

    def to_bytes(self) -> bytes:
        """Return the message."""
        return federation_pb2.GiveBackReply().SerializeToString()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Return the value, or raise InputError."""
        _parse(federation_pb2.GiveBackReply(), data, methods.REPLY_BYTES)
        return cls()


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
        m = _parse(contributions_pb2.BeginRequest(), data, methods.BEGIN.request_bytes)
        _few("chunks", len(m.chunks), 1, methods.MAX_CHUNKS)
        return cls(
            document=_bytes("document", m.document, 1, _DOCUMENT),
            chunks=tuple(_bytes("a chunk hash", c, _HASH, _HASH) for c in m.chunks),
            wraps=_bytes("wraps", m.wraps, 0, _WRAPS),
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
        m = _parse(contributions_pb2.BeginReply(), data, methods.REPLY_BYTES)
        return cls(
            upload_id=_bytes("upload_id", m.upload_id, _UPLOAD_ID, _UPLOAD_ID),
            have=_bytes("have", m.have, 0, methods.MAX_CHUNKS // 8),
            receipt=_bytes("receipt", m.receipt, 0, _RECEIPT),
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
        m = _parse(contributions_pb2.PutRequest(), data, methods.PUT.request_bytes)
        return cls(
            upload_id=_bytes("upload_id", m.upload_id, _UPLOAD_ID, _UPLOAD_ID),
            index=_number("index", m.index, 0, methods.MAX_CHUNKS - 1),
            data=_bytes("data", m.data, 1, methods.CHUNK_BYTES),
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
        m = _parse(contributions_pb2.PutReply(), data, methods.REPLY_BYTES)
        return cls(num_whole=_number("num_whole", m.num_whole, 0, methods.MAX_CHUNKS))


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
        m = _parse(contributions_pb2.CommitRequest(), data, methods.COMMIT.request_bytes)
        return cls(upload_id=_bytes("upload_id", m.upload_id, _UPLOAD_ID, _UPLOAD_ID))


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
        m = _parse(contributions_pb2.CommitReply(), data, methods.REPLY_BYTES)
        if m.WhichOneof("outcome") == "receipt":
            return cls(receipt=_bytes("receipt", m.receipt, 1, _RECEIPT))
        indexes = tuple(m.missing.indexes)
        _few("missing chunks", len(indexes), 1, methods.MAX_CHUNKS)
        if list(indexes) != sorted(set(indexes)) or indexes[-1] >= methods.MAX_CHUNKS:
            raise malformed("missing chunks that do not ascend or do not exist")
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
        m = _parse(contributions_pb2.StatusRequest(), data, methods.STATUS.request_bytes)
        if m.fence == 0:
            return cls(_number("slot", m.slot, 0, 0), 0)
        return cls(*_slot_and_fence(m.slot, m.fence))


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
        m = _parse(contributions_pb2.StatusReply(), data, methods.REPLY_BYTES)
        return cls(
            state=_STATES[_number("state", int(m.state), 1, len(_STATES)) - 1],
            why=_text("why", m.why, _TEXT),
            leaf=_number("leaf", m.leaf, 0, _FENCE),
            receipt=_bytes("receipt", m.receipt, 0, _RECEIPT),
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
        m = _parse(contributions_pb2.WithdrawRequest(), data, methods.WITHDRAW.request_bytes)
        return cls(document=_bytes("document", m.document, 1, 2 << 10))


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
        m = _parse(contributions_pb2.WithdrawReply(), data, methods.REPLY_BYTES)
        return cls(receipt=_bytes("receipt", m.receipt, 1, _RECEIPT))


@dataclass(frozen=True, slots=True)
class Order:
    """One open order: what the operator asks of the caller. ``made`` in Unix seconds."""

    id: bytes
    kind: OrderKind
    concept: str
    release: int
    made: int


def _concept(value: str) -> str:
    try:
        is_slug = slug(_text("a concept", value, _CONCEPT)) == value
    except InputError:
        is_slug = False
    if not is_slug:  # T10: a name that becomes a folder's
        raise malformed("a concept that is no slug")
    return value


def _order(m: orders_pb2.Order) -> Order:
    return Order(
        id=_bytes("an order's id", m.id, _ORDER_ID, _ORDER_ID),
        kind=_ORDER_KINDS[_number("kind", int(m.kind), 1, len(_ORDER_KINDS)) - 1],
        concept=_concept(m.concept),
        release=_number("release", m.release, 0, _MOST_INT32),
        made=_number("made", m.made, 0, _FENCE),
    )


@dataclass(frozen=True, slots=True)
class OrdersRequest:
    """Asks for the caller's open orders."""

    def to_bytes(self) -> bytes:
        """Return the message."""
        return orders_pb2.OrdersRequest().SerializeToString()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Return the value, or raise InputError."""
        _parse(orders_pb2.OrdersRequest(), data, methods.ORDERS.request_bytes)
        return cls()


@dataclass(frozen=True, slots=True)
class OrdersReply:
    """The caller's open orders; the ages are in seconds, 0 for never."""

    orders: tuple[Order, ...]
    node_seen_s: int = 0
    bridge_seen_s: int = 0

    def to_bytes(self) -> bytes:
        """Return the message."""
        orders = [
            orders_pb2.Order(
                id=order.id,
                kind=orders_pb2.OrderKind.ValueType(_ORDER_KINDS.index(order.kind) + 1),
                concept=order.concept,
                release=order.release,
                made=order.made,
            )
            for order in self.orders
        ]
        return orders_pb2.OrdersReply(
            orders=orders, node_seen_s=self.node_seen_s, bridge_seen_s=self.bridge_seen_s
        ).SerializeToString()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Return the value, or raise InputError."""
        m = _parse(orders_pb2.OrdersReply(), data, methods.REPLY_BYTES)
        _few("orders", len(m.orders), 0, methods.MAX_ORDERS)
        return cls(tuple(map(_order, m.orders)), m.node_seen_s, m.bridge_seen_s)


@dataclass(frozen=True, slots=True)
class FleetKeyRequest:
    """One member makes its Flower node known by the node's public key."""

    public_key: str

    def to_bytes(self) -> bytes:
        """Return the message."""
        return orders_pb2.FleetKeyRequest(public_key=self.public_key).SerializeToString()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Return the value, or raise InputError."""
        m = _parse(orders_pb2.FleetKeyRequest(), data, methods.FLEET_KEY.request_bytes)
        if not m.public_key:
            raise malformed("a node key of 0 characters")
        return cls(_text("a node key", m.public_key, MOST_CHARACTERS))


@dataclass(frozen=True, slots=True)
class FleetKeyReply:
    """The node's key is kept."""

    def to_bytes(self) -> bytes:
        """Return the message."""
        return orders_pb2.FleetKeyReply().SerializeToString()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Return the value, or raise InputError."""
        _parse(orders_pb2.FleetKeyReply(), data, methods.REPLY_BYTES)
        return cls()


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """What one member measured of its own concept in a release; losses in millionths."""

    concept: str
    release: int
    base_millionths: int
    single_millionths: int
    merged_millionths: int
    num_pictures: int
    num_draws: int

    def to_bytes(self) -> bytes:
        """Return the message."""
        return orders_pb2.ScoreRequest(
            concept=self.concept,
            release=self.release,
            base_millionths=self.base_millionths,
            single_millionths=self.single_millionths,
            merged_millionths=self.merged_millionths,
            num_pictures=self.num_pictures,
            num_draws=self.num_draws,
        ).SerializeToString()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Return the value, or raise InputError."""
        m = _parse(orders_pb2.ScoreRequest(), data, methods.SCORE.request_bytes)
        return cls(
            concept=_concept(m.concept),
            release=_number("release", m.release, 1, _MOST_INT32),
            base_millionths=_number("a loss", m.base_millionths, 0, methods.MOST_LOSS),
            single_millionths=_number("a loss", m.single_millionths, 0, methods.MOST_LOSS),
            merged_millionths=_number("a loss", m.merged_millionths, 0, methods.MOST_LOSS),
            num_pictures=_number("num_pictures", m.num_pictures, 1, _MOST_SCORED),
            num_draws=_number("num_draws", m.num_draws, 1, _MOST_SCORED),
        )


@dataclass(frozen=True, slots=True)
class ScoreReply:
    """The numbers are kept."""

    def to_bytes(self) -> bytes:
        """Return the message."""
        return orders_pb2.ScoreReply().SerializeToString()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Return the value, or raise InputError."""
        _parse(orders_pb2.ScoreReply(), data, methods.REPLY_BYTES)
        return cls()


@dataclass(frozen=True, slots=True)
class ListRequest:
    """Asks which releases exist."""

    def to_bytes(self) -> bytes:
        """Return the message."""
        return releases_pb2.ListRequest().SerializeToString()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Return the value, or raise InputError."""
        _parse(releases_pb2.ListRequest(), data, methods.LIST_RELEASES.request_bytes)
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
        m = _parse(releases_pb2.ListReply(), data, methods.REPLY_BYTES)
        releases = tuple(m.releases)
        _few("releases", len(releases), 0, _RELEASES)
        if list(releases) != sorted(set(releases)) or 0 in releases:
            raise malformed("release numbers that do not ascend from 1")
        if m.newest != (releases[-1] if releases else 0):
            raise malformed(f"newest release {m.newest}, which is not the last one listed")
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
        m = _parse(releases_pb2.ManifestRequest(), data, methods.GET_MANIFEST.request_bytes)
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
        m = _parse(releases_pb2.ManifestReply(), data, methods.REPLY_BYTES)
        return cls(
            document=_bytes("document", m.document, 1, _MANIFEST),
            receipt=_bytes("receipt", m.receipt, 1, _RECEIPT),
            spec=_bytes("spec", m.spec, 1, _SPEC),
            keyrings=_documents(tuple(m.keyrings)),
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
        m = _parse(releases_pb2.ReadRequest(), data, methods.READ.request_bytes)
        return cls(
            n=m.n,
            name=_text("name", m.name, _NAME),
            offset=m.offset,
            length=_number("length", m.length, 1, methods.READ_BYTES),
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
        m = _parse(releases_pb2.PublicRequest(), data, methods.READ_PUBLIC.request_bytes)
        name = _text("a file name", m.name, _NAME)
        return cls(name, m.offset, _number("a length", m.length, 1, methods.READ_BYTES))


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
        m = _parse(releases_pb2.ReadReply(), data, methods.REPLY_BYTES)
        return cls(data=_bytes("data", m.data, 0, methods.READ_BYTES), total_bytes=m.total_bytes)


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
        m = _parse(releases_pb2.ContributionRequest(), data, methods.GET_CONTRIBUTION.request_bytes)
        return cls(_number("leaf", m.leaf, 0, _FENCE))


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
        m = _parse(releases_pb2.ContributionReply(), data, methods.REPLY_BYTES)
        return cls(
            receipt=_bytes("receipt", m.receipt, 1, _RECEIPT),
            wraps=_bytes("wraps", m.wraps, 0, _WRAPS),
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
        m = _parse(releases_pb2.ReadContributionRequest(), data, limit)
        return cls(
            leaf=_number("leaf", m.leaf, 0, _FENCE),
            offset=m.offset,
            length=_number("length", m.length, 1, methods.READ_BYTES),
        )
