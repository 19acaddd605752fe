"""Takes calls in turn: each waits for a place, for its message, for a thread (T18).

Four lanes, so that nobody waits for what others do more of: chunks, Begin, Commit, and all small
calls, a renewal above all. Laws: a lane reads and works on ``_PLACES`` messages at once, and a call
that waits holds 16 KiB, gRPC's window. A message that is not whole after ``_BRISK_S`` goes on
without a place, so slow ones keep nobody waiting, but no more than ``_SLOW_BYTES`` of them: one
more, and the slowest is cut. So memory is bounded by bytes and not by calls: 32 MiB of windows
for ``_CONCURRENT`` calls, and some 128 MiB of messages.
Replies of ``_LARGE`` calls wait to be taken; who does not take one is hung up on (hangup.py), so
nobody can keep these places. All of it lives in the server's loop; only work is done in threads.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from ..core.errors import OrthoFedError, Refused, Unreachable
from ..proto import methods
from ..proto.methods import Method
from .call import Answer, Call
from .hangup import hang_up
from .introspection import Context
from .patience import Patience

_LOG = logging.getLogger("orthofed.coordinator")
_CONCURRENT = 2_048
_PLACES = 96
_BRISK_S = 1.0
_SLOW_BYTES = 96 << 20
_LARGE = 64
_COMMITS = 2
_TOGETHER_S = 0.1  # who is late within it is looked for in one go

Arrive = Callable[[Method, object, Context], Call]


class _Lane:
    """Places, and the threads that work on what has one."""

    def __init__(self, name: str, threads: int) -> None:
        self.places = asyncio.Semaphore(_PLACES)
        self.pool = ThreadPoolExecutor(threads, thread_name_prefix=name)


class Reception:
    """Brings each call to the service when its turn has come."""

    def __init__(self, arrive: Arrive, answer: Answer, patience: Patience) -> None:
        """Make a call of what arrived with ``arrive``; ask ``answer``, in threads, for replies."""
        self._arrive = arrive
        self._answer = answer
        self._patience = patience
        self._num_calls = 0
        self._small = _Lane("small", 4)
        # More threads than these keep the loop, which accepts the calls, from the interpreter.
        # A Begin is Python all through: with four, a thousand at once held renewals up for 4 s.
        self._lanes = {
            methods.PUT: _Lane("chunk", 2),
            methods.BEGIN: _Lane("begin", 1),
            methods.COMMIT: _Lane("commit", _COMMITS),
        }
        self._slow = _SlowOnes()
        self._large = asyncio.Semaphore(_LARGE)
        self._commits = asyncio.Semaphore(_COMMITS)
        self._late: set[str] = set()

    def close(self) -> None:
        """Let the threads finish."""
        for lane in {self._small, *self._lanes.values()}:
            lane.pool.shutdown()

    async def take(self, method: Method, context: Context) -> bytes:
        """Return the reply; raises OrthoFedError."""
        if self._num_calls >= _CONCURRENT:
            raise _busy(f"{self._num_calls} calls are being answered, allowed are {_CONCURRENT}")
        self._num_calls += 1
        _at_end(context, self._count_down)
        reply = await self._take(method, context)
        self._expect_taken(context)
        return reply

    def _count_down(self) -> None:
        self._num_calls -= 1

    def _expect_taken(self, context: Context) -> None:
        """Hang up on who does not take the reply in time; a refusal needs no window to pass."""
        loop = asyncio.get_running_loop()
        timer = loop.call_later(self._patience.reply_s, self._is_late, context.peer())
        _at_end(context, timer.cancel)

    def _is_late(self, peer: str) -> None:
        if not self._late:
            asyncio.get_running_loop().call_later(_TOGETHER_S, self._hang_up)
        self._late.add(peer)

    def _hang_up(self) -> None:
        late, self._late = self._late, set()
        self._small.pool.submit(hang_up, late)
        _LOG.warning("hung up on %d who did not take their replies", len(late))

    async def _take(self, method: Method, context: Context) -> bytes:
        if method.signer == "nobody":
            await self._place(self._large, _LARGE)
            # Until the caller took the reply, not until it was made: replies are up to 1 MiB.
            _at_end(context, self._large.release)
        lane = self._lanes.get(method, self._small)
        await self._place(lane.places, _PLACES)
        place = _Place(lane.places)
        try:
            call = self._arrive(method, await self._read(method, context, place), context)
            if method is not methods.COMMIT:
                return await self._work(lane, call)
        finally:
            place.let_go()
        # Commits wait here, with a few bytes each and no thread, and keep nobody from uploading.
        await self._place(self._commits, _COMMITS)
        try:
            return await self._work(lane, call)
        finally:
            self._commits.release()

    async def _read(self, method: Method, context: Context, place: "_Place") -> object:
        """Return the message, with a place; one that takes long reads on without, and is refused.

        What was slow and is whole waits for a place as long again, and counts until it has one.
        """
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        try:
            async with asyncio.timeout(min(method.deadline_s, self._patience.body_s)) as term:

                def go_on() -> None:
                    place.let_go()
                    self._slow.add(term, method.request_bytes)

                brisk = loop.call_later(_BRISK_S, go_on)
                try:
                    body = await context.read()
                    if not place.held:
                        term.reschedule(loop.time() + self._patience.body_s)
                        await place.take()
                    return body
                finally:
                    brisk.cancel()
                    self._slow.drop(term)
        except TimeoutError:
            raise _too_slow(loop.time() - began_s) from None

    async def _work(self, lane: _Lane, call: Call) -> bytes:
        return await asyncio.get_running_loop().run_in_executor(lane.pool, self._answer, call)

    async def _place(self, places: asyncio.Semaphore, num: int) -> None:
        if not places.locked():  # as nearly always: no timer, no wait
            await places.acquire()
            return
        most_s = self._patience.body_s
        try:
            async with asyncio.timeout(most_s):
                await places.acquire()
        except TimeoutError:
            raise _busy(f"none of {num} places was free in {most_s:.0f} s") from None


class _Place:
    """A place that a call holds, gives away, and takes again."""

    def __init__(self, places: asyncio.Semaphore) -> None:
        self._places = places
        self.held = True

    async def take(self) -> None:
        """Wait for one."""
        await self._places.acquire()
        self.held = True

    def let_go(self) -> None:
        """Give it away, if it is held."""
        if self.held:
            self.held = False
            self._places.release()


class _SlowOnes:
    """The messages that are read without a place, the slowest first, and their bytes."""

    def __init__(self) -> None:
        self._terms: OrderedDict[asyncio.Timeout, int] = OrderedDict()
        self._num_bytes = 0

    def add(self, term: asyncio.Timeout, num_bytes: int) -> None:
        """Count one more; if they are too many, end the slowest one's term."""
        self._terms[term] = num_bytes
        self._num_bytes += num_bytes
        while self._num_bytes > _SLOW_BYTES:
            slowest = next(iter(self._terms))
            self.drop(slowest)
            slowest.reschedule(asyncio.get_running_loop().time())

    def drop(self, term: asyncio.Timeout) -> None:
        """Forget one, if it is there: it is whole, or gone."""
        self._num_bytes -= self._terms.pop(term, 0)


def _at_end(context: Context, do: Callable[[], None]) -> None:
    """Call ``do`` when the other side has taken the reply, or is gone."""
    context.add_done_callback(lambda _: do())  # pyright: ignore[reportArgumentType]  # the stubs forget the context


def _busy(what: str) -> OrthoFedError:
    return Refused(
        what,
        why="the coordinator works on a bounded number of calls at once",
        fix="try again in a moment",
        code="busy",
    )


def _too_slow(after_s: float) -> OrthoFedError:
    return Unreachable(
        f"a message that was not whole after {after_s:.0f} s",
        why="a sender that trickles would hold a place that others need",
        fix="check the network and try again",
        code="too-slow",
    )
