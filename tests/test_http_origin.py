"""What an HTTP server may answer, byte by byte, and what is made of it.

Threats T6, T16, T18 of security.md 2; the server here writes each answer itself.
"""

import hashlib
import itertools
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from orthofed.client import http_watch
from orthofed.client.download import Download
from orthofed.client.http_origin import HttpOrigin
from orthofed.client.origin import NoRanges, Wanted
from orthofed.core.errors import OrthoFedError, Refused, Unreachable, VerificationFailed
from orthofed.core.release import FileEntry
from orthofed.core.tree_address import TreeAddress

from .raw_web import RawWeb, Send

DATA = bytes(range(256)) * 4
HALF = 512
WANTED = Wanted(
    FileEntry(
        "x.bin",
        len(DATA),
        hashlib.sha256(DATA).hexdigest(),
        tuple(hashlib.sha256(DATA[at : at + HALF]).hexdigest() for at in (0, HALF)),
    ),
    n=1,
    chunk_bytes=HALF,
)


def origin(web: RawWeb, *, patience_s: float = 0) -> HttpOrigin:
    return HttpOrigin(TreeAddress(web.url, ""), patience_s=patience_s)


def says(*lines: str, body: bytes = b"") -> Callable[[str, Send], None]:
    """Return an answer of these lines and this body, the same to everybody."""
    head = "\r\n".join(lines).encode() + b"\r\n\r\n"
    return lambda _, send: send(head + body)


PART = ("HTTP/1.1 206 x", "content-length: 512", f"content-range: bytes 0-511/{len(DATA)}")
READS: dict[str, tuple[Callable[[str, Send], None], type[OrthoFedError], str]] = {
    "longer than it may be": (
        says("HTTP/1.1 200 x", "content-length: 99", body=b"x" * 99),
        VerificationFailed,
        "more than 9 bytes",
    ),
    "nothing": (says("HTTP/1.1 200 x", "content-length: 0"), Unreachable, "nothing of head.json"),
    "a head that was cut": (
        lambda _, send: send(b"HTTP/1.1 200 x\r\ncontent-le"),
        Unreachable,
        "nothing of head.json",
    ),
    "a part that nobody asked for": (says(*PART, body=DATA[:HALF]), Refused, "HTTP 206"),
    "busy": (says("HTTP/1.1 429 x", "content-length: 0"), Unreachable, "HTTP 429"),
    "no": (says("HTTP/1.1 403 x", "content-length: 0"), Refused, "HTTP 403"),
    "another host": (
        says("HTTP/1.1 302 x", "location: http://localhost:1/y", "content-length: 0"),
        Refused,
        "redirects to",
    ),
    "another port": (
        says("HTTP/1.1 302 x", "location: http://127.0.0.1:1/y", "content-length: 0"),
        Refused,
        "redirects to",
    ),
    "nowhere": (says("HTTP/1.1 302 x", "content-length: 0"), Refused, "redirects to"),
    "a damaged address": (
        says("HTTP/1.1 302 x", "location: http://[::1/y", "content-length: 0"),
        Refused,
        "redirects to no address",
    ),
    "round and round": (
        says("HTTP/1.1 302 x", "location: /y", "content-length: 0"),
        Refused,
        "more than 5 redirects",
    ),
    "packed": (
        says("HTTP/1.1 200 x", "content-encoding: gzip", "content-length: 1", body=b"x"),
        VerificationFailed,
        "encoded as 'gzip'",
    ),
    "no http": (says("SSH-2.0-x"), Unreachable, "no HTTP"),
}


@pytest.mark.parametrize("case", READS)
def test_an_answer_that_is_no_file_is_named(case: str) -> None:
    """Each comes instead of head.json, of which nine bytes are expected at most."""
    answer, error, text = READS[case]
    with RawWeb(answer) as web, origin(web) as asked, pytest.raises(error, match=text):
        asked.read("head.json", 9)


def test_a_redirect_within_the_host_is_followed() -> None:
    """As CDNs do with a path of theirs."""

    def answer(line: str, send: Send) -> None:
        if "/cache/" in line:
            says("HTTP/1.1 200 x", "content-length: 2", body=b"ok")(line, send)
        else:
            says("HTTP/1.1 301 x", "location: /cache/h", "content-length: 0")(line, send)

    with RawWeb(answer) as web, origin(web) as asked:
        assert asked.read("head.json", 9) == b"ok"


STRETCHES: dict[str, tuple[tuple[str, ...], bytes, type[OrthoFedError], str]] = {
    "of another place": (
        (*PART[:2], f"content-range: bytes 1-512/{len(DATA)}"),
        DATA[1 : HALF + 1],
        VerificationFailed,
        "were asked for, 'bytes 1-512",
    ),
    "of another length": (
        ("HTTP/1.1 206 x", "content-length: 511", PART[2]),
        DATA[:511],
        VerificationFailed,
        "511 bytes were announced",
    ),
    "of no length and too long": (
        ("HTTP/1.1 206 x", PART[2]),
        DATA,
        VerificationFailed,
        "more than the 512 bytes",
    ),
    "of no length and too short": (
        ("HTTP/1.1 206 x", PART[2]),
        DATA[:100],
        Unreachable,
        "cut at byte 100",
    ),
    "of which the head alone came": (
        ("HTTP/1.1 206 x", "content-range: bytes 0-5"),
        b"",
        Unreachable,
        "cut at byte 0",
    ),
}


@pytest.mark.parametrize("case", STRETCHES)
def test_a_stretch_that_is_another_is_refused(case: str) -> None:
    """T16: the first 512 bytes of 1024 are asked for."""
    lines, body, error, text = STRETCHES[case]
    with (
        RawWeb(says(*lines, body=body)) as web,
        origin(web) as asked,
        pytest.raises(error, match=text),
    ):
        list(asked.stretch(WANTED, 0, HALF))


def test_a_whole_file_in_the_place_of_a_part_is_no_lie() -> None:
    """200 to a Range: the server has none, which is told apart from a wrong answer."""
    with (
        RawWeb(says("HTTP/1.1 200 x", "content-length: 1024", body=DATA)) as web,
        origin(web) as asked,
        pytest.raises(NoRanges, match="whole or not at all"),
    ):
        list(asked.stretch(WANTED, 0, HALF))


def drip(send: Send, data: bytes) -> None:
    for piece in itertools.repeat(data, 200):
        send(piece)
        time.sleep(0.05)


DRIPS: dict[str, Callable[[str, Send], None]] = {
    "in its headers": lambda _, send: (send(b"HTTP/1.1 200 x\r\n"), drip(send, b"a"))[0],
    "in what comes before them": lambda _, send: drip(send, b"HTTP/1.1 100 Continue\r\n\r\n"),
    "in a body without length": lambda _, send: (
        send(b"HTTP/1.1 200 x\r\n\r\n"),
        drip(send, b"a"),
    )[0],
    "behind its body": lambda _, send: (
        send(b"HTTP/1.1 200 x\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n"),
        drip(send, b"a: b\r\n"),
    )[0],
}


@pytest.mark.parametrize("case", DRIPS)
def test_who_drips_anywhere_is_hung_up_on(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """T18: twenty pieces a second for ten seconds, of which a body's bytes alone count."""
    monkeypatch.setattr(http_watch, "WATCHED_S", 0.5)
    began_s = time.monotonic()
    with (
        RawWeb(DRIPS[case]) as web,
        origin(web) as asked,
        pytest.raises(Unreachable, match=r"\d bytes in \d+ s"),
    ):
        asked.read("head.json", 1 << 20)

    assert time.monotonic() - began_s < 5


def test_a_steady_answer_is_not_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes three times as long as is watched, at twice the slowest rate."""
    monkeypatch.setattr(http_watch, "WATCHED_S", 0.3)

    def answer(_line: str, send: Send) -> None:
        send(b"HTTP/1.1 200 x\r\ncontent-length: 2048\r\n\r\n")
        for _ in range(16):
            send(b"x" * 128)
            time.sleep(0.06)

    with RawWeb(answer) as web, origin(web) as asked:
        assert len(asked.read("head.json", 4096)) == 2048


def test_a_server_without_ranges_is_found_out_by_one_question(tmp_path: Path) -> None:
    """Two workers ask at the same time; one waits for what the other learns."""
    seen = threading.Event()

    def answer(_line: str, send: Send) -> None:
        seen.wait(0.5)
        send(b"HTTP/1.1 200 x\r\ncontent-length: 1024\r\n\r\n" + DATA)

    with RawWeb(answer) as web, origin(web) as asked:
        Download([asked], tmp_path, lambda *_: None).run([WANTED], lambda *_: None)

    assert sum("range: " in head.lower() for head in web.asked) == 1
    assert len(web.asked) == 2


def test_a_chunk_that_never_comes_right_is_asked_for_twice(tmp_path: Path) -> None:
    """T16: the only origin lies about one of two chunks, and is not asked a third time."""

    def answer(line: str, send: Send) -> None:
        del line
        at = 0 if "bytes=0-" in web.asked[-1] else HALF
        head = f"HTTP/1.1 206 x\r\ncontent-length: 512\r\ncontent-range: bytes {at}-{at + 511}/1024"
        body = DATA[at : at + HALF] if at else b"x" * HALF
        # Said, since it hangs up: who asks again on that line in this moment hears of a reset.
        send(head.encode() + b"\r\nconnection: close\r\n\r\n" + body)

    web = RawWeb(answer)
    with web, origin(web) as asked, pytest.raises(VerificationFailed, match="chunk 0 was wrong"):
        Download([asked], tmp_path, lambda *_: None).run([WANTED], lambda *_: None)

    assert sum("bytes=0-" in head for head in web.asked) == 2


def part_of(line_and_head: str) -> tuple[int, bytes]:
    """Return where the asked part begins and the head of an answer without its length."""
    at = 0 if "bytes=0-" in line_and_head else HALF
    end = min(at + HALF, len(DATA)) - 1
    return at, f"HTTP/1.1 206 x\r\ncontent-range: bytes {at}-{end}/1024\r\n\r\n".encode()


def test_a_lie_in_the_middle_of_a_chunk_leaves_nothing_of_it(tmp_path: Path) -> None:
    """T16: wrong bytes and then too many; the second answer is right, and taken from the start."""
    lied: list[int] = []

    def answer(_line: str, send: Send) -> None:
        at, head = part_of(web.asked[-1])
        if at == 0 and not lied:
            lied.append(at)
            send(head + b"x" * 300)
            time.sleep(0.3)
            send(b"x" * 400)
        else:
            send(head + DATA[at : at + HALF])

    web = RawWeb(answer)
    with web, origin(web) as asked:
        Download([asked], tmp_path, lambda *_: None).run([WANTED], lambda *_: None)

    assert (tmp_path / WANTED.entry.sha256).read_bytes() == DATA


def test_a_download_that_fails_waits_for_no_other_stretch(tmp_path: Path) -> None:
    """One chunk is wrong twice; of the other a byte comes every tenth of a second."""

    def answer(_line: str, send: Send) -> None:
        at, head = part_of(web.asked[-1])
        send(head)
        if at == 0:
            send(b"x" * HALF)
        else:
            for _ in range(100):
                send(b"x")
                time.sleep(0.1)

    web, began_s = RawWeb(answer), time.monotonic()
    with web, origin(web) as asked, pytest.raises(VerificationFailed, match="chunk 0 was wrong"):
        Download([asked], tmp_path, lambda *_: None).run([WANTED], lambda *_: None)

    assert time.monotonic() - began_s < 3


def test_chunks_that_are_right_of_a_whole_that_is_not_are_refused(tmp_path: Path) -> None:
    """A manifest that contradicts itself: no file is handed over, and its part goes."""
    entry = FileEntry("x.bin", len(DATA), "0" * 64, WANTED.entry.chunks)
    arrived: list[Path] = []
    with (
        RawWeb(says("HTTP/1.1 200 x", "content-length: 1024", body=DATA)) as web,
        origin(web) as asked,
        pytest.raises(VerificationFailed, match="the whole is not"),
    ):
        Download([asked], tmp_path, lambda *_: None).run(
            [Wanted(entry, n=1, chunk_bytes=HALF)], lambda _, part: arrived.append(part)
        )

    assert arrived == []
    assert list(tmp_path.iterdir()) == []


def test_a_part_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    """T10: somebody put a link where a part belongs; what it leads to keeps its bytes."""
    (tmp_path / "mine").write_bytes(b"mine")
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / WANTED.entry.sha256).symlink_to(tmp_path / "mine")
    with (
        RawWeb(says("HTTP/1.1 200 x", "content-length: 1024", body=DATA)) as web,
        origin(web) as asked,
        pytest.raises(OSError, match="symbolic links"),
    ):
        Download([asked], tmp_path / "parts", lambda *_: None).run([WANTED], lambda *_: None)

    assert (tmp_path / "mine").read_bytes() == b"mine"
