"""The messages of the service ``Fleet``: open orders, a node's key, an owner's figures."""

from dataclasses import dataclass
from typing import Final, Literal, Self, cast, get_args

from orthofed.proto.v1 import orders_pb2

from ..core.errors import InputError
from ..core.names import slug
from ..core.node_key import MOST_CHARACTERS
from . import checks, methods

OrderKind = Literal["train", "score", "withdraw"]
"""What an order asks for, in the order of ``OrderKind`` in proto/v1 from 1."""

_ORDER_KINDS: Final = cast("tuple[OrderKind, ...]", get_args(OrderKind))

_ORDER_ID: Final = 16

_CONCEPT: Final = 31

_MOST_SCORED: Final = 1_000_000

_MOST_INT32: Final = (1 << 31) - 1


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
        is_slug = slug(checks.text("a concept", value, _CONCEPT)) == value
    except InputError:
        is_slug = False
    if not is_slug:  # T10: a name that becomes a folder's
        raise checks.malformed("a concept that is no slug")
    return value


def _order(m: orders_pb2.Order) -> Order:
    return Order(
        id=checks.data_of("an order's id", m.id, _ORDER_ID, _ORDER_ID),
        kind=_ORDER_KINDS[checks.number("kind", int(m.kind), 1, len(_ORDER_KINDS)) - 1],
        concept=_concept(m.concept),
        release=checks.number("release", m.release, 0, _MOST_INT32),
        made=checks.number("made", m.made, 0, checks.FENCE),
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
        checks.parse(orders_pb2.OrdersRequest(), data, methods.ORDERS.request_bytes)
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
        m = checks.parse(orders_pb2.OrdersReply(), data, methods.REPLY_BYTES)
        checks.check_few("orders", len(m.orders), 0, methods.MAX_ORDERS)
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
        m = checks.parse(orders_pb2.FleetKeyRequest(), data, methods.FLEET_KEY.request_bytes)
        if not m.public_key:
            raise checks.malformed("a node key of 0 characters")
        return cls(checks.text("a node key", m.public_key, MOST_CHARACTERS))


@dataclass(frozen=True, slots=True)
class FleetKeyReply:
    """The node's key is kept."""

    def to_bytes(self) -> bytes:
        """Return the message."""
        return orders_pb2.FleetKeyReply().SerializeToString()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Return the value, or raise InputError."""
        checks.parse(orders_pb2.FleetKeyReply(), data, methods.REPLY_BYTES)
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
        m = checks.parse(orders_pb2.ScoreRequest(), data, methods.SCORE.request_bytes)
        return cls(
            concept=_concept(m.concept),
            release=checks.number("release", m.release, 1, _MOST_INT32),
            base_millionths=checks.number("a loss", m.base_millionths, 0, methods.MOST_LOSS),
            single_millionths=checks.number("a loss", m.single_millionths, 0, methods.MOST_LOSS),
            merged_millionths=checks.number("a loss", m.merged_millionths, 0, methods.MOST_LOSS),
            num_pictures=checks.number("num_pictures", m.num_pictures, 1, _MOST_SCORED),
            num_draws=checks.number("num_draws", m.num_draws, 1, _MOST_SCORED),
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
        checks.parse(orders_pb2.ScoreReply(), data, methods.REPLY_BYTES)
        return cls()
