"""HTTP/2 by hand, over TLS: what no gRPC library would send.

``Raw`` speaks just enough of RFC 9113 to be taken for a client (settings, pings) and then sends
what a test tells it to. Header blocks are literals without Huffman codes, which gRPC's own answers
are too, so a status can be read with a regular expression.
"""

import re
import socket
import ssl
import struct
import time
from collections.abc import Callable
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING = range(7)
GOAWAY, WINDOW_UPDATE, CONTINUATION = 7, 8, 9
END_STREAM, END_HEADERS, ACK = 1, 4, 1
_STATUS = re.compile(rb"grpc-status.(\d+)")


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """Return one frame."""
    return head(kind, flags, stream, len(payload)) + payload


def head(kind: int, flags: int, stream: int, length: int) -> bytes:
    """Return a frame's first nine bytes, which announce ``length`` more."""
    return struct.pack(">I", length)[1:] + bytes([kind, flags]) + struct.pack(">I", stream)


def literal(name: bytes, value: bytes) -> bytes:
    """Return one header field, at most 126 bytes each side."""
    return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value


def request(path: str | bytes, *extra: tuple[bytes, bytes]) -> bytes:
    """Return the header block of one gRPC call."""
    fields = [
        (b":method", b"POST"),
        (b":scheme", b"https"),
        (b":path", path.encode() if isinstance(path, str) else path),
        (b":authority", b"localhost"),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
        *extra,
    ]
    return b"".join(literal(name, value) for name, value in fields)


def message(body: bytes, *, flag: int = 0, length: int | None = None) -> bytes:
    """Return a gRPC message with its five bytes in front."""
    return bytes([flag]) + struct.pack(">I", len(body) if length is None else length) + body


class Raw:
    """One TLS connection to ``address`` that trusts one authority (DER)."""

    def __init__(self, address: str, ca: bytes) -> None:
        host, _, port = address.rpartition(":")
        context = ssl.create_default_context()
        context.load_verify_locations(
            cadata=x509.load_der_x509_certificate(ca).public_bytes(Encoding.PEM).decode()
        )
        context.set_alpn_protocols(["h2"])
        plain = socket.create_connection((host, int(port)), timeout=10)
        self.socket = context.wrap_socket(plain, server_hostname="localhost")
        self.statuses: list[int] = []
        self.heads = b""  # the header blocks and resets that came, one after the other
        self.windows: dict[int, int] = {0: 65_535}  # what may be sent, by stream; 0 is all of them
        self.first_window = 65_535
        self.ended: float | None = None
        self._buffer = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.socket.close()

    def start(self) -> None:
        """Send the preface and empty settings."""
        self.socket.sendall(PREFACE + frame(SETTINGS, 0, 0, b""))

    def talk(
        self, seconds: float, drip: Callable[[], bytes] = bytes, *, step_s: float = 0.2
    ) -> bool:
        """Answer settings and pings, sending ``drip()`` each step; return whether it was cut.

        ``ended`` tells when the first call was answered, in seconds from now.
        """
        started = time.monotonic()
        self.socket.settimeout(step_s)
        while time.monotonic() - started < seconds:
            try:
                data = self.socket.recv(65536)
                if not data:
                    return True
                self._take(data, started)
            except TimeoutError:
                pass
            except OSError:
                return True
            try:
                if more := drip():
                    self.socket.sendall(more)
            except OSError:
                return True
        return False

    def _take(self, data: bytes, started: float) -> None:
        self._buffer += data
        while len(self._buffer) >= 9:
            end = 9 + int.from_bytes(self._buffer[:3], "big")
            if len(self._buffer) < end:
                return
            kind, flags, payload = self._buffer[3], self._buffer[4], self._buffer[9:end]
            stream = int.from_bytes(self._buffer[5:9], "big")
            self._buffer = self._buffer[end:]
            if kind == SETTINGS and not flags & ACK:
                for at in range(0, len(payload), 6):
                    if payload[at : at + 2] == b"\0\4":  # SETTINGS_INITIAL_WINDOW_SIZE
                        self.first_window = int.from_bytes(payload[at + 2 : at + 6], "big")
                self.socket.sendall(frame(SETTINGS, ACK, 0, b""))
            elif kind == PING and not flags & ACK:
                self.socket.sendall(frame(PING, ACK, 0, payload))
            elif kind == WINDOW_UPDATE:
                more = int.from_bytes(payload, "big")
                self.windows[stream] = self.windows.get(stream, self.first_window) + more
            elif kind in (HEADERS, RST_STREAM):
                self.heads += payload
                found = [int(status) for status in _STATUS.findall(payload)]
                self.statuses += found
                if found or kind == RST_STREAM:
                    self.ended = self.ended or time.monotonic() - started


def hold_bodies(raw: Raw, path: str, body: bytes, *, streams: int, seconds: float) -> int:
    """Begin ``streams`` calls and send all of ``body`` but its last byte, as windows allow.

    Nothing more is sent; return how many bodies the other side took that far.
    """
    whole = message(body)[:-1]
    left = {2 * n + 1: memoryview(whole) for n in range(streams)}
    raw.start()
    raw.socket.sendall(b"".join(frame(HEADERS, END_HEADERS, s, request(path)) for s in left))

    def as_windows_allow() -> bytes:
        out = b""
        for stream, rest in left.items():
            window = raw.windows.setdefault(stream, raw.first_window)
            room = min(window, raw.windows[0], len(rest), 16_384)
            if room > 0:
                out += frame(DATA, 0, stream, bytes(rest[:room]))
                left[stream] = rest[room:]
                raw.windows[stream] -= room
                raw.windows[0] -= room
        return out

    raw.talk(seconds, as_windows_allow, step_s=0.02)
    return sum(not rest for rest in left.values())
