"""A federation's public files from any HTTP server that has the static tree, by ranges.

Laws: nothing but bytes as they lie on the server is taken: no part that was not asked for, no more
than the signed length (T16); how it is asked and when it is hung up on: http_line.py. What may pass
by itself (no connection, 429, 5xx) is tried again with full jitter until ``patience_s`` is over
without a byte. A server that answers a question for a part with the whole is found out by its first
such answer and asked for whole files alone from then on (read_through.py); after a cut it begins
anew, and what came before is dropped as it comes. Source: security.md 5.
"""

import threading
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from http import HTTPStatus
from typing import Final, Self

import tenacity

from ..core.errors import Unreachable, VerificationFailed
from ..core.tree_address import TreeAddress
from .http_line import STREAMS, HttpLine, Reply
from .origin import NoRanges, Wanted, release_file

_MANIFEST: Final = "manifest.json"
_MANIFEST_BYTES: Final = 1 << 20
_SLOWEST: Final = 1 << 10
_SLOWEST_MIRROR: Final = 64 << 10
_WAIT: Final = tenacity.wait_random_exponential(multiplier=0.1, max=30)


class HttpOrigin:
    """One server; safe for several threads. ``mirror``: others have the same, so do not wait."""

    def __init__(self, address: TreeAddress, *, patience_s: float, mirror: bool = False) -> None:
        """Prepare the connections; nothing is sent yet. Units: ``patience_s`` in seconds."""
        self.where = address.url
        self.streams = STREAMS
        self._patience_s = 0.0 if mirror else patience_s
        self._line = HttpLine(address, slowest=_SLOWEST_MIRROR if mirror else _SLOWEST)
        self._ranges: bool | None = None  # whether it gives parts; None: nobody asked yet
        self._learning = threading.Lock()

    def __enter__(self) -> Self:
        """Use the connections until the block ends."""
        return self

    def __exit__(self, *_exc: object) -> None:
        """Close them."""
        self._line.close()

    def read(self, name: str, most: int) -> bytes:
        """Return a file that proves the ledger; see PublicSource."""

        def once() -> bytes:
            data = b""
            with self._line.get(name, {}) as reply:
                for piece in reply.pieces():
                    data += piece
                    if len(data) > most:  # T16
                        raise VerificationFailed(
                            f"{name} of more than {most} bytes from {self.where}",
                            why="the length of every public file is bounded",
                            fix="run the same command again later, or tell the operator",
                            code="wrong-length",
                        )
            if not data:  # no such file is empty: a head that was cut looks like it
                raise self._line.unreachable(f"nothing of {name} came")
            return data

        return self._persist(once)

    def manifest(self, n: int) -> bytes:
        """Return the signed manifest of release ``n``, unchecked."""
        return self.read(release_file(n, _MANIFEST), _MANIFEST_BYTES)

    def stretch(self, wanted: Wanted, offset: int, length: int) -> Generator[bytes]:
        """Give a stretch of one file; see Origin."""
        at, end, tried, since_s = offset, offset + length, 0, time.monotonic()
        whole = length == wanted.entry.bytes
        while True:
            try:
                for data in self._stretch(wanted, at, end, whole=whole):
                    at, tried, since_s = at + len(data), 0, time.monotonic()
                    yield data
            except Unreachable:
                if time.monotonic() - since_s >= self._patience_s:
                    raise
                tried += 1
                time.sleep(_waited(tried))
            else:
                return

    def _stretch(self, wanted: Wanted, at: int, end: int, *, whole: bool) -> Generator[bytes]:
        """Give what follows byte ``at`` until the line is cut; of a ``whole`` file by any way."""
        part = at > 0 if whole and self._ranges is not False else not whole
        headers = {"range": f"bytes={at}-{end - 1}"} if part else {}
        with ExitStack() as stack:
            with self._alone(part=part):
                if self._ranges is False and not whole:
                    raise self._no_ranges(wanted)
                reply = stack.enter_context(self._line.get(wanted.tree_name, headers))
                if part:
                    self._ranges = reply.status == HTTPStatus.PARTIAL_CONTENT
            ranged = reply.status == HTTPStatus.PARTIAL_CONTENT
            if not ranged and not whole:
                raise self._no_ranges(wanted)
            wrong = _wrong_stretch(wanted, reply, at if ranged else 0, end)
            skip = 0 if ranged else at  # begun anew: what came before the cut comes again
            for data in reply.pieces():
                if wrong:
                    raise wanted.wrong(wrong)  # not before a byte: a head that was cut lies too
                piece, skip = memoryview(data)[skip:], max(0, skip - len(data))
                at += len(piece)
                if at > end:  # T16
                    raise wanted.wrong(f"more than the {end} bytes that were asked for came")
                if piece:
                    yield data if len(piece) == len(data) else bytes(piece)
        if at < end:
            raise self._line.unreachable(f"the line was cut at byte {at} of {wanted.entry.name}")

    @contextmanager
    def _alone(self, *, part: bool) -> Generator[None]:
        """Let the first question for a part be asked alone, and those that waited for it at once.

        Eight answers with a whole file each would be seven too many.
        """
        with ExitStack() as stack:
            if part and self._ranges is None:
                stack.enter_context(self._learning)
                if self._ranges is not None:  # learnt meanwhile
                    stack.close()
            yield

    def _no_ranges(self, wanted: Wanted) -> NoRanges:
        return NoRanges(
            f"{self.where} gives {wanted.entry.name[:200]} whole or not at all",
            why="it takes no Range, so one part of a file costs all of the file",
            fix="take another mirror, or run without --mirror",
            code="no-ranges",
        )

    def _persist(self, once: Callable[[], bytes]) -> bytes:
        patience = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(Unreachable),
            wait=_WAIT,
            stop=tenacity.stop_after_delay(self._patience_s),
            reraise=True,
        )
        return patience(once)


def _wrong_stretch(wanted: Wanted, reply: Reply, at: int, end: int) -> str:
    """Return how an answer announces another stretch than was asked for (T16); "" for not."""
    said = reply.headers.get("content-length")
    if reply.status == HTTPStatus.PARTIAL_CONTENT:
        place, asked = reply.headers.get("content-range", ""), f"{at}-{end - 1}"
        if place != f"bytes {asked}/{wanted.entry.bytes}":
            return f"bytes {asked}/{wanted.entry.bytes} were asked for, {place[:80]!r} came"
    if said is not None and said != str(end - at):
        return f"{said[:20]} bytes were announced, {end - at} were asked for"
    return ""


def _waited(tried: int) -> float:
    """Return how long to wait before the next try: full jitter on 0.1 s x 2^k up to 30 s."""
    state = tenacity.RetryCallState(tenacity.Retrying(), None, (), {})
    state.attempt_number = tried
    return _WAIT(state)
