"""Bytes that are no call: HTTP/2 and TLS by hand, right up to a place and then wrong (R8).

``cases`` gives named families; each is one connection. gRPC itself answers most of them, before any
handler of ours: what it says is listed in ``OWN_WORDS`` and may be nothing else.
"""

import contextlib
import random
import re
import socket
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import repeat

from orthofed.core.invite import Invite
from orthofed.proto import methods

from .raw_http2 import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PING,
    PREFACE,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Raw,
    frame,
    head,
    literal,
    message,
    request,
)

Random = random.Random
UNKNOWN, INTERNAL = 2, 13
OWN_WORDS = {
    INTERNAL: re.compile(
        r"Error parsing '[^']*' metadata|Illegal header key|Metadata keys cannot be zero length"
        r"|Failed parsing HTTP/2"
    ),
    UNKNOWN: re.compile(r"Unexpected <class 'UnicodeDecodeError'>"),
}
"""What gRPC answers by itself when a header block breaks its rules: INTERNAL from its parser in C,
and UNKNOWN from its Python, which takes the path for UTF-8 before it looks for a handler."""
_MESSAGE = re.compile(
    rb"grpc-message(?:[\x00-\x7e]|\x7f[\x80-\xff]*[\x00-\x7f])([ -~]*)", re.DOTALL
)
_PATIENCE_S = 0.2
_AT_ONCE = 8
_END = END_HEADERS | END_STREAM


End = tuple[list[int], bytes, bool]
"""The statuses and header blocks that came, and whether the connection was closed."""


@dataclass
class RawTally:
    """How connections ended, and answers that must not be."""

    answers: Counter[str] = field(default_factory=Counter)
    own: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def add(self, name: str, sent: bytes, end: End) -> None:
        statuses, heads, cut = end
        told = f"status {statuses[0]}" if statuses else "closed" if cut else "no answer"
        self.answers[told] += 1
        for status in statuses:
            if status not in OWN_WORDS:
                continue
            found = [text.decode() for text in _MESSAGE.findall(heads)]
            if methods.CODE_KEY.encode() in heads or not any(
                OWN_WORDS[status].match(text.lstrip()) for text in found
            ):
                self.faults.append(f"{name}: status {status} {found} {sent[:200].hex()}")
            else:
                self.own[f"{name}: status {status}"] += 1

    def table(self) -> str:
        told = ", ".join(f"{how} {num}" for how, num in self.answers.most_common())
        own = ", ".join(f"{how} {num}" for how, num in sorted(self.own.items()))
        return f"  raw connections: {told}\n  of these by gRPC's own parser: {own}"


def run(invite: Invite, num: int, *, seed: int) -> RawTally:
    """Open ``num`` connections, some at a time, each with a family's bytes."""
    rng, tally = random.Random(seed), RawTally()  # noqa: S311  # a replayable draw
    names = [tuple(FAMILIES)[number % len(FAMILIES)] for number in range(num)]
    sent = [FAMILIES[name](rng) for name in names]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        ends = pool.map(_one, repeat(invite), names, sent)
        for name, data, end in zip(names, sent, ends, strict=True):
            tally.add(name, data, end)
    return tally


def _one(invite: Invite, name: str, sent: bytes) -> End:
    if name == "no TLS":
        return _plain(invite, sent)
    with Raw(invite.addr, invite.ca) as connection:
        if name not in ("no preface", "broken preface"):
            connection.start()
        with contextlib.suppress(OSError):
            connection.socket.sendall(sent)
        cut = _wait(connection)
    return connection.statuses, connection.heads, cut


def _wait(connection: Raw) -> bool:
    """Read until an answer, a cut, or a silence; return whether it was cut."""
    end = time.monotonic() + _PATIENCE_S
    cut = False
    while not cut and connection.ended is None and time.monotonic() < end:
        cut = connection.talk(0.02, step_s=0.02)
    return cut


def _plain(invite: Invite, sent: bytes) -> End:
    host, _, port = invite.addr.rpartition(":")
    with contextlib.suppress(OSError), socket.create_connection((host, int(port))) as plain:
        plain.sendall(sent)
        plain.settimeout(_PATIENCE_S)
        plain.recv(4_096)
    return [], b"", True


# -- families -----------------------------------------------------------------------------------

_PATHS = tuple(method.path for method in methods.METHODS)
_REPLY_TO = b"\x08\x01\x10\x01"


def _call(rng: Random, *extra: tuple[bytes, bytes], body: bytes | None = None) -> bytes:
    block = request(rng.choice(_PATHS), *extra)
    data = frame(DATA, END_STREAM, 1, message(_REPLY_TO)) if body is None else body
    return frame(HEADERS, END_HEADERS, 1, block) + data


def _flipped(rng: Random, data: bytes) -> bytes:
    out = bytearray(data)
    for _ in range(rng.choice((1, 2, 8))):
        out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
    return bytes(out)


def _header_lost(rng: Random) -> bytes:
    block = request(rng.choice(_PATHS))
    fields = (b":method", b":scheme", b":path", b":authority", b"te", b"content-type")
    name = rng.choice(fields)
    start = block.index(b"\x00" + bytes([len(name)]) + name)
    length = 3 + len(name) + block[start + 2 + len(name)]
    return frame(HEADERS, END_HEADERS, 1, block[:start] + block[start + length :])


def _header_value(rng: Random) -> bytes:
    pairs = (
        *((b"te", b"x"), (b":scheme", b"ftp"), (b":method", b"GET"), (b"content-type", b"a/b")),
        *((b"grpc-timeout", b"zzz"), (b"grpc-timeout", b"-5S"), (b"grpc-timeout", b"0n")),
        *((b"grpc-encoding", b"snappy"), (b"grpc-encoding", b"gzip"), (b"connection", b"close")),
        *((b"grpc-status", b"0"), (b"content-length", b"7"), (b"x-nul", b"a\0\n\r")),
        *((b"grpc-accept-encoding", b"\xff,,"), (b"host", b"\xff"), (b"x", b"\xff" * 100)),
    )
    return _call(rng, rng.choice(pairs))


def _header_name(rng: Random) -> bytes:
    names = (b"X-Upper", b"", b":foo", b":path", b"a b", b"\xff", b"grpc-", b"orthofed-auth")
    return _call(rng, (rng.choice(names), b"x"))


def _metadata(rng: Random) -> bytes:
    key = rng.choice((methods.AUTH_KEY, methods.SIGNATURE_KEY, "x-other-bin")).encode()
    value = rng.choice((b"!!!!", b"A", b"=", b"AAAA,AAAA", b"\xff", b"", b"A" * 120))
    return _call(rng, *((key, value),) * rng.choice((1, 2, 60)))


def _path(rng: Random) -> bytes:
    paths = ("", "/", "x", "//", "/a/b", "/orthofed.v1.Releases/", "/../x", "/a/b/c", "*", "/%00")
    return frame(HEADERS, END_HEADERS, 1, request(rng.choice(paths))) + frame(
        DATA, END_STREAM, 1, message(_REPLY_TO)
    )


def _path_not_utf8(rng: Random) -> bytes:
    block = request(rng.choice((b"/\xff\xfe/x", b"\xc3", b"/a/\xed\xa0\x80")))
    return frame(HEADERS, END_HEADERS, 1, block) + frame(DATA, END_STREAM, 1, message(_REPLY_TO))


def _hpack(rng: Random) -> bytes:
    block = request(rng.choice(_PATHS))
    broken = (
        *(b"\xff" * 50, b"\x80", block[:-5], b"\x3f\xe1\xff\x7f" + block, b"", rng.randbytes(60)),
        *(block + b"\x00\x81\xff\x81\xff", block + b"\x7f" * 20, _flipped(rng, block)),
    )
    return frame(HEADERS, END_HEADERS, 1, rng.choice(broken)) + frame(
        DATA, END_STREAM, 1, message(_REPLY_TO)
    )


def _body(rng: Random) -> bytes:
    whole = message(_REPLY_TO)
    bodies = (
        *(b"", b"\0\0", whole[:-1], whole * 2, message(_REPLY_TO, length=50)),
        *(message(_REPLY_TO, flag=flag) for flag in (1, 2, 0x80, 0xFF)),
        *(message(b"", length=length) for length in (0, 1 << 19, (1 << 32) - 1)),
        rng.randbytes(rng.choice((5, 100, 16_000))),
    )
    return _call(rng, body=frame(DATA, END_STREAM, 1, rng.choice(bodies)))


def _frames(rng: Random) -> bytes:
    kinds = (DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING)
    more = (GOAWAY, WINDOW_UPDATE, CONTINUATION, 10, 0xFE)
    out = b""
    for _ in range(rng.choice((1, 3, 20))):
        payload = rng.randbytes(rng.choice((0, 1, 4, 5, 6, 8, 17, 200)))
        stream = rng.choice((0, 1, 2, 3, 0x7FFFFFFF, 0xFFFFFFFF))
        out += frame(rng.choice(kinds + more), rng.randrange(256), stream, payload)
    return out + _call(rng)


def _lengths(rng: Random) -> bytes:
    length = rng.choice((16_385, 1 << 20, (1 << 24) - 1))
    return head(rng.choice(range(10)), rng.randrange(256), 1, length) + rng.randbytes(500)


def _windows(rng: Random) -> bytes:
    update = frame(
        WINDOW_UPDATE, 0, rng.choice((0, 1)), rng.choice((bytes(4), b"\x7f\xff\xff\xff"))
    )
    flood = b"".join(frame(DATA, 0, 1, bytes(16_000)) for _ in range(rng.choice((1, 12))))
    return _call(rng, body=update * rng.choice((1, 3)) + flood)


def _broken_off(rng: Random) -> bytes:
    call = _call(rng)
    code = rng.randrange(20).to_bytes(4, "big")
    return call[: rng.randrange(len(call))] + rng.choice((b"", frame(RST_STREAM, 0, 1, code)))


def _many(rng: Random) -> bytes:
    """Open and reset streams faster than they are served."""
    block = request(rng.choice(_PATHS))
    streams = range(1, 2 * rng.choice((5, 100)), 2)
    reset = frame(RST_STREAM, 0, 1, bytes(4))[9:]
    return b"".join(
        frame(HEADERS, END_HEADERS, n, block) + frame(RST_STREAM, 0, n, reset) for n in streams
    )


FAMILIES: dict[str, Callable[[Random], bytes]] = {
    "no TLS": lambda rng: rng.choice((b"GET / HTTP/1.1\r\n\r\n", PREFACE, rng.randbytes(300), b"")),
    "no preface": lambda rng: rng.choice((b"GET / HTTP/1.1\r\n\r\n", rng.randbytes(300))),
    "broken preface": lambda rng: _flipped(rng, PREFACE) + frame(SETTINGS, 0, 0, b""),
    "a header lost": _header_lost,
    "a header's value": _header_value,
    "a header's name": _header_name,
    "metadata": _metadata,
    "path": _path,
    "path that is no UTF-8": _path_not_utf8,
    "HPACK": _hpack,
    "body": _body,
    "headers that end the stream": lambda rng: frame(HEADERS, _END, 1, request(rng.choice(_PATHS))),
    "frames": _frames,
    "lengths": _lengths,
    "windows": _windows,
    "broken off": _broken_off,
    "many streams": _many,
    "any bytes": lambda rng: rng.randbytes(rng.choice((9, 100, 3_000))),
    "flipped": lambda rng: _flipped(rng, _call(rng)),
    "trailers": lambda rng: (
        _call(rng, body=frame(DATA, 0, 1, message(_REPLY_TO)))
        + frame(HEADERS, _END, 1, literal(b"x-more", b"y"))
    ),
}
"""A family's name and its bytes after the preface and empty settings, if not said otherwise."""
