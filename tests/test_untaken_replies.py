"""T18, the other way round: who asks and does not take the answer keeps no place from others."""

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from orthofed.coordinator import reception
from orthofed.coordinator.hangup import hang_up
from orthofed.coordinator.patience import Patience
from orthofed.core.errors import OrthoFedError
from orthofed.proto import methods, wire

from .member import Member
from .raw_http2 import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PREFACE,
    SETTINGS,
    Raw,
    frame,
    message,
    request,
)
from .seeded import Bug
from .serving import Running, founded, running

SHORT = Patience(body_s=1.0, reply_s=0.8)
NO_WINDOW = frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 0))  # INITIAL_WINDOW_SIZE
STREAMS = (1, 3, 5, 7)  # as many as one connection may have
LARGE = 64


def call(stream: int, path: str, body: bytes) -> bytes:
    block = frame(HEADERS, END_HEADERS, stream, request(path))
    return block + frame(DATA, END_STREAM, stream, message(body))


@contextmanager
def not_taking(member: Member, num: int) -> Iterator[list[Raw]]:
    """Ask for ``num`` specs without a window to send them through; pings are answered."""
    with contextlib.ExitStack() as stack:
        raws = [
            stack.enter_context(Raw(member.invite.addr, member.invite.ca))
            for _ in range(num // len(STREAMS))
        ]
        for each in raws:
            each.socket.sendall(PREFACE + NO_WINDOW)
            for stream in STREAMS:
                body = wire.SpecRequest().to_bytes()
                each.socket.sendall(call(stream, methods.GET_SPEC.path, body))
        yield raws


def story(coordinator: Running) -> None:
    """All places for large replies are kept by replies that nobody takes; then one is asked for."""
    member = coordinator.member()
    with not_taking(member, LARGE) as raws:
        cut: list[bool] = []
        threads = [threading.Thread(target=lambda r=r: cut.append(r.talk(3.0))) for r in raws]
        for thread in threads:
            thread.start()
        time.sleep(0.3)  # until all of them are being answered

        spec = member.spec()
        for thread in threads:
            thread.join()

    assert spec.name == "wren-fed"
    assert cut == [True] * (LARGE // len(STREAMS))
    assert not any(each.statuses for each in raws)  # so their replies were never on the way


def test_who_takes_no_reply_is_hung_up_on_and_the_next_caller_is_served(tmp_path: Path):
    """Sixty-four replies wait for a window of zero, on sixteen connections that answer pings."""
    with running(founded(tmp_path), patience=SHORT) as coordinator:
        story(coordinator)


def test_a_server_that_waits_for_ever_for_a_reply_to_be_taken_is_caught(tmp_path: Path):
    """The seeded bug: nobody looks whether a reply was taken."""
    bug = Bug.named("reply-never-late")
    folder = founded(tmp_path)
    with (
        bug.everywhere(),
        running(folder, patience=SHORT) as coordinator,
        pytest.raises((OrthoFedError, AssertionError)),
    ):
        story(coordinator)


def test_a_refusal_passes_a_window_of_zero(tmp_path: Path):
    """A refusal is trailers alone; a message beside them would wait, and hold the call."""
    with running(founded(tmp_path)) as coordinator:
        member = coordinator.member()
        with Raw(member.invite.addr, member.invite.ca) as connection:
            connection.socket.sendall(PREFACE + NO_WINDOW + call(1, methods.RENEW.path, b"x"))
            connection.talk(1.0)

    assert connection.statuses == [16]


def test_a_client_that_gives_up_is_not_hung_up_on(tmp_path: Path):
    """Thirty calls are cancelled at different moments; the connection lives on."""
    with running(founded(tmp_path), patience=SHORT) as coordinator:
        link = coordinator.member().link
        stub = link.channel.unary_unary(methods.GET_SPEC.path)
        for wait in range(30):
            asked = stub.future(wire.SpecRequest().to_bytes(), timeout=20)
            time.sleep(wait * 0.000_3)
            asked.cancel()
        states: list[object] = []
        link.channel.subscribe(states.append)

        time.sleep(SHORT.reply_s + 0.4)

        assert [str(state) for state in states] == ["ChannelConnectivity.READY"]
        assert stub(wire.SpecRequest().to_bytes(), timeout=20)


def test_calls_beyond_the_bound_are_told_how_many_there_are(tmp_path: Path, monkeypatch):
    """Three half-sent messages where three calls may be; a fourth is refused at once, typed."""
    monkeypatch.setattr(reception, "_CONCURRENT", 3)
    with running(founded(tmp_path)) as coordinator:
        member = coordinator.member()
        with Raw(member.invite.addr, member.invite.ca) as connection:
            connection.start()
            for stream in (1, 3, 5):
                block = frame(HEADERS, END_HEADERS, stream, request(methods.PUT.path))
                connection.socket.sendall(block + frame(DATA, 0, stream, b"\0"))
            connection.talk(0.3)

            with pytest.raises(OrthoFedError, match=r"3 calls .* allowed are 3") as caught:
                member.spec()

        assert caught.value.code == "busy"
        assert member.link.last_trailers["status"] == "RESOURCE_EXHAUSTED"
        assert member.link.last_trailers[methods.RETRY_KEY] == "1"


@pytest.mark.parametrize(
    ("family", "host", "peer"),
    [
        (socket.AF_INET, "127.0.0.1", "ipv4:127.0.0.1:{}"),
        (socket.AF_INET6, "::1", "ipv6:%5B::1%5D:{}"),
    ],
)
def test_only_the_named_peer_is_hung_up_on(family: int, host: str, peer: str):
    """Two connections; one is shut down, the other still carries a byte; strangers do no harm."""
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(socket.create_server((host, 0), family=family))
        ours = [
            stack.enter_context(socket.create_connection(listening.getsockname()[:2]))
            for _ in range(2)
        ]
        theirs = [stack.enter_context(listening.accept()[0]) for _ in ours]
        port = ours[0].getsockname()[1]

        ended = hang_up([peer.format(port), "ipv4:192.0.2.1:9", "unix:", "nonsense"])
        theirs[1].send(b"x")

        assert ended == 1
        assert ours[0].recv(1) == b""
        assert ours[1].recv(1) == b"x"
