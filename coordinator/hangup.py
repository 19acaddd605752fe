"""Ends the connections of peers who do not take their replies (T18).

gRPC offers a server no way to end one call whose reply the other side does not let through: with a
window of zero and answered pings a call would stay until its connection is ten minutes old. So the
connection itself is shut down, found among this process's own sockets by the peer's address; gRPC
sees it end as any other and frees what its calls held. Cost: a look at each open descriptor, about
3 us, so several peers are looked for together. Not here: who is late (server.py).
"""

import ipaddress
import os
import socket
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import unquote

_Place = tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, int]


def hang_up(peers: Iterable[str]) -> int:
    """Shut down this process's connections to the peers, in gRPC's spelling; return how many."""
    wanted = {place for peer in peers if (place := _place_of(peer)) is not None}
    num = 0
    for path in Path("/dev/fd").iterdir() if wanted else ():
        try:
            # A copy: whatever its number stands for a moment later, this is what is looked at.
            connection = socket.socket(fileno=os.dup(int(path.name)))
        except OSError:
            continue  # a file, or closed since
        with connection:
            if _place(connection) in wanted:
                num += 1
                _shut(connection)
    return num


def _place_of(peer: str) -> _Place | None:
    """Return address and port of ``ipv4:192.0.2.7:5000`` or ``ipv6:%5B::1%5D:5000``."""
    host, _, port = unquote(peer.partition(":")[2]).rpartition(":")
    return _known(host.strip("[]"), port)


def _place(connection: socket.socket) -> _Place | None:
    if connection.family not in (socket.AF_INET, socket.AF_INET6):
        return None
    try:
        host, port, *_ = connection.getpeername()
    except OSError:
        return None  # it listens, or has ended
    return _known(host, port)


def _known(host: str, port: str | int) -> _Place | None:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
        number = int(port)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address, number


def _shut(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # the peer was faster
