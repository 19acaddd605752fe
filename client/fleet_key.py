"""Tells the coordinator which Flower node is this member's, by the node's public key.

Law: only the key leaves: the comment of an OpenSSH file, where tools write a user's and a machine's
name, stays here. The same key once more changes nothing; a newer one replaces it.
Source: flower.md 6.
"""

from ..core.keys import SigningKey
from ..core.node_key import node_key
from ..proto import methods, wire
from .channel import Channel


def fleet_key(channel: Channel, member: SigningKey, public_line: str) -> None:
    """Register the line of a ``.pub`` file as the node key of ``member``.

    Raises InputError: no ECDSA key of a NIST curve, or one that was used before. Raises Refused:
    too many new ones today, or the member key was revoked or rotated. Raises Unreachable.
    """
    request = wire.FleetKeyRequest(node_key(public_line))
    channel.call(methods.FLEET_KEY, request, wire.FleetKeyReply, key=member)
