"""How long a slow other side is borne, from the handshake to the reply (T18).

Law: no way of being slow keeps a connection or a call for more than 30 seconds. gRPC itself keeps
the first of these terms, reception.py the rest. Source: security.md 5.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a slow other side is borne, in seconds (T18): no more than 30 in any way.

    ``handshake_s``: TLS and HTTP/2 set-up. ``idle_s``: a connection without a call, or whose
    headers trickle, is closed after one to two times this; clients connect anew. ``silence_s``:
    until a ping is sent, and again as long for its answer. ``body_s``: the longest for a message,
    and for a place to read it. ``reply_s``: until the other side has taken a reply.
    """

    handshake_s: float = 10.0
    idle_s: float = 14.0
    silence_s: float = 14.0
    body_s: float = 20.0
    reply_s: float = 20.0

    @property
    def options(self) -> tuple[tuple[str, int], ...]:
        """What gRPC itself is told."""
        handshake_ms, idle_ms, silence_ms = (
            int(1_000 * seconds) for seconds in (self.handshake_s, self.idle_s, self.silence_s)
        )
        return (
            ("grpc.server_handshake_timeout_ms", handshake_ms),
            ("grpc.http2.settings_timeout", handshake_ms),
            ("grpc.max_connection_idle_ms", idle_ms),
            ("grpc.keepalive_time_ms", silence_ms),
            ("grpc.keepalive_timeout_ms", silence_ms),
        )
