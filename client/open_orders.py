"""What the operator asks of this member, by the coordinator's own word.

Law: an order counts only if it stands here, whatever a Flower message says; it gives no right and
lets nothing leave. Source: flower.md 6. Not here: what the daemon makes of it.
"""

from dataclasses import dataclass

from ..core.keys import SigningKey
from ..proto import methods, wire
from ..proto.wire import Order
from .channel import Channel


@dataclass(frozen=True, slots=True)
class OpenOrders:
    """The open orders, the oldest first; the ages in seconds, None for never.

    ``node_seen_s``: since the coordinator's bridge saw this member's Flower node.
    ``bridge_seen_s``: since it reported anything at all; while that is large or None, a silent node
    is no news.
    """

    orders: tuple[Order, ...]
    node_seen_s: int | None
    bridge_seen_s: int | None


def open_orders(channel: Channel, member: SigningKey) -> OpenOrders:
    """Return the open orders of ``member``, the home's newest member key.

    Raises Refused: the key was revoked or rotated. Raises Unreachable: no answer; ask again later.
    """
    reply = channel.call(methods.ORDERS, wire.OrdersRequest(), wire.OrdersReply, key=member)
    return OpenOrders(reply.orders, reply.node_seen_s or None, reply.bridge_seen_s or None)
