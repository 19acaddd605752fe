"""Tells open pages that something changed: server-sent events, a bounded number of them.

Laws: an event says that there is news and never what it is; the page fetches itself anew, under its
own login. What a page has seen has a name (``tag``): the page carries it, an event's id is the next
one, and a stream that is begun with the newest name says nothing, with any other `change` at once;
so nothing is missed while a page loads, a line is cut or the coordinator restarts. At most
``_MOST`` streams, ``_EACH`` an address; each ends after ``_LIFE_S`` and is then begun anew by the
browser (T18). All streams share one look a second, and nobody looks without a stream.
"""

import asyncio
import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from starlette.concurrency import run_in_threadpool

_MOST: Final = 64
_EACH: Final = 8
_LIFE_S: Final = 600.0
_LOOK_S: Final = 1.0
_KEEP_S: Final = 15.0


def tag(seen: object) -> str:
    """Return the name of what a look gave: 16 hex digits."""
    return hashlib.sha256(repr(seen).encode()).hexdigest()[:16]


class Full(Exception):
    """There are as many streams as there may be."""


class Places:
    """How many streams are open, in all and by address. For one event loop."""

    def __init__(self, *, most: int = _MOST, each: int = _EACH) -> None:
        """Start with none."""
        self._most, self._each = most, each
        self._taken: Counter[str] = Counter()
        self.closing = False

    @asynccontextmanager
    async def one(self, address: str) -> AsyncIterator[None]:
        """Count one stream while it is open; the place was taken by ``take``."""
        try:
            yield
        finally:
            self._taken[address] -= 1
            self._taken += Counter()  # drops zeros

    def take(self, address: str) -> None:
        """Take a place. Raises Full."""
        if self._taken.total() >= self._most or self._taken[address] >= self._each:
            raise Full
        self._taken[address] += 1


class Pulse:
    """One thing that is looked at while somebody follows it."""

    def __init__(self, look: Callable[[], object], places: Places) -> None:
        """``look`` returns a value that differs when there is news; it may block."""
        self._look = look
        self._places = places
        self._lock = asyncio.Lock()
        self._seen: tuple[float, object] = (float("-inf"), None)

    async def follow(
        self, address: str, *, until: Callable[[], bool], seen: str = ""
    ) -> AsyncIterator[bytes]:
        """Yield the stream for a place that was taken; it ends when ``until`` says so.

        ``seen`` names what the reader has seen; empty: nothing.
        """
        async with self._places.one(address):
            loop = asyncio.get_running_loop()
            began_s = kept_s = loop.time()
            yield b"retry: 3000\n\n"
            while loop.time() - began_s < _LIFE_S and not self._places.closing and not until():
                found = tag(await self._fresh(loop.time()))
                if found != seen:
                    seen, kept_s = found, loop.time()
                    yield f"event: change\nid: {found}\ndata: news\n\n".encode()
                elif loop.time() - kept_s > _KEEP_S:
                    kept_s = loop.time()
                    yield b": nothing new\n\n"
                await asyncio.sleep(_LOOK_S)

    async def _fresh(self, now_s: float) -> object:
        async with self._lock:
            if now_s - self._seen[0] >= _LOOK_S:
                self._seen = (now_s, await run_in_threadpool(self._look))
            return self._seen[1]
