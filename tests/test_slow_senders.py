"""T18: who is slow is cut and keeps nobody from uploading; T6: nothing is ever unpacked.

The server is the real one with its patience shortened, so that a test takes seconds.
"""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from orthofed.coordinator import reception
from orthofed.coordinator.patience import Patience
from orthofed.core.errors import OrthoFedError
from orthofed.proto import methods, wire

from .member import Member, Wire
from .raw_http2 import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PREFACE,
    Raw,
    frame,
    head,
    literal,
    message,
    request,
)
from .serving import Running, founded, running

SHORT = Patience(handshake_s=1.0, idle_s=1.0, silence_s=1.0, body_s=1.5)
CUT_S = 4.0
PUT = methods.PUT.path
CALL = frame(HEADERS, END_HEADERS, 1, request(PUT))


@pytest.fixture(scope="module")
def coordinator(tmp_path_factory) -> Iterator[Running]:
    folder = founded(tmp_path_factory.mktemp("slow"))
    with running(folder, patience=SHORT) as made:
        yield made


def raw(member: Member) -> Raw:
    return Raw(member.invite.addr, member.invite.ca)


def silent_socket(member: Member) -> bool:
    host, _, port = member.invite.addr.rpartition(":")
    with socket.create_connection((host, int(port))) as plain:
        return _is_cut(plain, b"")


def trickled_handshake(member: Member) -> bool:
    host, _, port = member.invite.addr.rpartition(":")
    with socket.create_connection((host, int(port))) as plain:
        plain.sendall(
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
        )  # a ClientHello's first bytes
        return _is_cut(plain, b"\x00")


def silent_after_handshake(member: Member) -> bool:
    with raw(member) as connection:
        return connection.talk(CUT_S)


def preface_without_settings(member: Member) -> bool:
    with raw(member) as connection:
        connection.socket.sendall(PREFACE)
        return connection.talk(CUT_S)


def idle(member: Member) -> bool:
    with raw(member) as connection:
        connection.start()
        return connection.talk(CUT_S)


def trickled_headers(member: Member) -> bool:
    block = request(PUT) + literal(b"x-slow", b"a" * 100)[:-90]
    pieces = [b"", head(HEADERS, END_HEADERS, 1, len(block) + 90) + block]

    with raw(member) as connection:
        connection.start()
        return connection.talk(CUT_S, lambda: pieces.pop(0) if pieces else b"a")


def _is_cut(plain: socket.socket, drip: bytes) -> bool:
    plain.settimeout(0.2)
    end = time.monotonic() + CUT_S
    while time.monotonic() < end:
        try:
            if drip:
                plain.send(drip)
            if plain.recv(4096) == b"":
                return True
        except TimeoutError:
            continue
        except OSError:
            return True
    return False


@pytest.mark.parametrize(
    "attack",
    [
        silent_socket,
        trickled_handshake,
        silent_after_handshake,
        preface_without_settings,
        idle,
        trickled_headers,
    ],
)
def test_a_connection_that_gets_nowhere_is_cut(coordinator: Running, attack: Callable[..., bool]):
    """Handshake, settings, headers: each may take its time, and no more."""
    assert attack(coordinator.member())


@pytest.mark.parametrize(
    "body",
    [
        b"",
        message(b"", length=1024)[:3],
        message(b"x", length=262_144),
        message(b"", length=1 << 31),
    ],
    ids=["none", "half a length", "one byte of many", "two gigabytes announced"],
)
def test_a_message_that_trickles_is_refused_in_time(coordinator: Running, body: bytes):
    """The call ends with DEADLINE_EXCEEDED (4), too much announced with RESOURCE_EXHAUSTED (8)."""
    with raw(coordinator.member()) as connection:
        connection.start()
        connection.socket.sendall(CALL + frame(DATA, 0, 1, body))
        connection.talk(CUT_S, lambda: b"" if connection.ended else frame(DATA, 0, 1, b"x"))

    assert connection.statuses in ([4], [8])
    assert connection.ended is not None
    assert connection.ended < SHORT.body_s + 1.5


def test_a_message_announced_too_long_is_refused_at_its_first_bytes(coordinator: Running):
    """T5: older gRPC looked at the size after the last byte, and kept the gigabytes until then."""
    with raw(coordinator.member()) as connection:
        connection.start()
        too_long = message(b"", length=methods.MESSAGE_BYTES + 1)
        connection.socket.sendall(CALL + frame(DATA, 0, 1, too_long))
        connection.talk(SHORT.body_s, step_s=0.05)

    assert connection.statuses == [8], "a slow sender's is another one"
    assert connection.ended is not None


def test_a_path_that_is_no_utf_8_ends_its_own_call_alone(coordinator: Running):
    """One such packet ended the whole server of grpcio 1.84 and 1.85: it took no call any more."""
    member = coordinator.member()
    with raw(member) as connection:
        connection.start()
        block = frame(HEADERS, END_HEADERS | END_STREAM, 1, request(b"/\xff/x"))
        connection.socket.sendall(block)
        connection.talk(1.0, step_s=0.05)

    assert connection.statuses == [2]  # UNKNOWN, of gRPC's own: no handler of ours is asked
    assert coordinator.member().spec()


def test_slow_senders_do_not_keep_others_from_uploading(tmp_path: Path):
    """A hundred half-sent messages, three times as many as there are threads; an upload goes on."""
    with running(founded(tmp_path)) as coordinator, contextlib.ExitStack() as stack:
        member = coordinator.member()
        slow = [stack.enter_context(raw(member)) for _ in range(25)]
        for connection in slow:
            connection.start()
            for stream in (1, 3, 5, 7):
                block = frame(HEADERS, END_HEADERS, stream, request(PUT))
                half = frame(DATA, 0, stream, message(b"x" * 9_000, length=200_000))
                connection.socket.sendall(block + half)

        receipt = member.contribute(member.pack(member.lease("slow", ("slow-k7",))))

        assert receipt
        for connection in slow:
            assert not connection.talk(0.01)
            assert connection.statuses == []  # still being borne, so they were there all the time


def test_a_small_call_waits_for_no_chunk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Both places for large messages are taken by half-sent chunks for long; a spec is given."""
    monkeypatch.setattr(reception, "_PLACES", 2)
    monkeypatch.setattr(reception, "_BRISK_S", 30.0)
    folder = founded(tmp_path)
    with running(folder, patience=Patience(body_s=8.0)) as coordinator:
        member = coordinator.member()
        with raw(member) as connection:
            connection.start()
            for stream in (1, 3):
                block = frame(HEADERS, END_HEADERS, stream, request(PUT))
                connection.socket.sendall(block + frame(DATA, 0, stream, message(b"", length=9)))
            connection.talk(0.3)

            spec = member.spec()
            connection.talk(0.3)

            assert spec.name == "wren-fed"
            assert connection.statuses == []  # the chunks were being waited for all the time


def test_the_slowest_of_too_many_slow_messages_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Room for two slow chunks, and three come: the first ends long before its time, two stay."""
    monkeypatch.setattr(reception, "_SLOW_BYTES", 2 * methods.PUT.request_bytes)
    monkeypatch.setattr(reception, "_BRISK_S", 0.3)
    with running(founded(tmp_path)) as coordinator, raw(coordinator.member()) as connection:
        connection.start()
        for stream in (1, 3, 5):
            block = frame(HEADERS, END_HEADERS, stream, request(PUT))
            half = frame(DATA, 0, stream, message(b"x" * 9_000, length=200_000))
            connection.socket.sendall(block + half)
            connection.talk(0.05)

        connection.talk(1.5)
        assert connection.statuses == [4]

        told = coordinator.member().spec()

    assert told.name == "wren-fed"


@pytest.mark.parametrize("packing", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_a_packed_message_is_refused_and_not_unpacked(coordinator: Running, packing: Any):
    """T6: 16 MiB of zeros are a few kilobytes on the wire; they are refused as UNIMPLEMENTED."""
    stub = coordinator.member().link.channel.unary_unary(PUT)

    with pytest.raises(grpc.RpcError) as caught:
        stub(bytes(16 << 20), timeout=20, compression=packing)

    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED  # pyright: ignore[reportAttributeAccessIssue]


def test_what_is_too_large_is_refused_by_its_size(coordinator: Running):
    """T5: beyond 320 KiB by gRPC before it is read, beyond the call's own limit by us."""
    link = coordinator.member().link
    seen: list[str] = []

    for size in (methods.MESSAGE_BYTES + 1, methods.RENEW.request_bytes + 1):
        with pytest.raises(OrthoFedError):
            link.send(methods.RENEW, bytes(size))
        seen.append(link.last_trailers["status"])
    with pytest.raises(OrthoFedError):
        link.send(methods.RENEW, b"", ((methods.AUTH_KEY, bytes(9_000)),))
    seen.append(link.last_trailers["status"])

    assert seen == ["RESOURCE_EXHAUSTED", "INVALID_ARGUMENT", "RESOURCE_EXHAUSTED"]


def test_tools_get_a_typed_answer_and_no_place_for_ever(coordinator: Running):
    """Health: known, unknown, no message of its own; Watch would never end and is not offered."""
    channel = coordinator.member().link.channel
    stub: Any = health_pb2_grpc.HealthStub(channel)
    check = channel.unary_unary("/grpc.health.v1.Health/Check")

    def status(call: Callable[[], object]) -> str:
        with pytest.raises(grpc.RpcError) as caught:
            call()
        return caught.value.code().name  # pyright: ignore[reportAttributeAccessIssue]

    assert status(lambda: stub.Check(health_pb2.HealthCheckRequest(service="x"))) == "NOT_FOUND"
    assert status(lambda: check(b"\xff\xff")) == "INVALID_ARGUMENT"
    assert status(lambda: list(stub.Watch(health_pb2.HealthCheckRequest()))) == "UNIMPLEMENTED"


def test_a_reflection_stream_ends(coordinator: Running):
    """A stream that asks nothing is told so in time."""
    talk = coordinator.member().link.channel.stream_stream(
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
    )
    never = threading.Event()

    with pytest.raises(grpc.RpcError) as caught:
        list(talk(iter(lambda: never.wait(30), None), timeout=20))
    never.set()

    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED  # pyright: ignore[reportAttributeAccessIssue]


def test_calls_beyond_the_places_wait_for_one(coordinator: Running):
    """Two hundred calls at once on fifty connections: all are answered."""
    invite = coordinator.member().invite
    links = [Wire(invite) for _ in range(50)]

    def ask(index: int) -> int:
        reply = links[index % 50].call(methods.GET_SPEC, wire.SpecRequest(), wire.SpecReply)
        return len(reply.spec)

    with ThreadPoolExecutor(32) as pool:
        lengths = list(pool.map(ask, range(200)))
    for link in links:
        link.close()

    assert len(set(lengths)) == 1
