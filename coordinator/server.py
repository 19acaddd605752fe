"""The gRPC shell: moves bytes between the network and the service, and decides nothing.

Laws: TLS always; handlers have no deserialiser, because signatures cover the bytes that arrived
(security.md 4.4); every limit of security.md 5 is set here; every failure leaves with a typed
status and the trailer ``orthofed-code``, and what nobody foresaw is UNAVAILABLE and logged, never
UNKNOWN or INTERNAL. Compression is off (T6). All calls are unary on the wire; the server takes them
as streams of one message, because only then it can stop waiting for a body that trickles (T18): a
slow sender costs no thread, and is cut after the call's deadline. Memory: ``_PLACES`` messages are
read and worked on at once, as many small ones beside them on threads of their own, so that a
renewal waits for no chunk; one that is not whole after ``_BRISK_S`` goes on without a place, so
slow ones keep nobody waiting. Calls that wait hold 64 KiB each; at worst ``_CONCURRENT`` whole
messages are there. ``_LARGE`` replies wait to be taken; who does not take one is hung up on
(hangup.py), so nobody can keep these places.
"""

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

import grpc

from ..core.errors import InputError, OrthoFedError, Refused, Unreachable
from ..proto import failure, methods
from ..proto.methods import Method
from .clock import Clock
from .hangup import hang_up
from .introspection import Context, Introspection
from .tls import ServerTls

_LOG = logging.getLogger("orthofed.coordinator")
_THREADS = 6
_SMALL_THREADS = 4
_SMALL_BYTES = 8 << 10
_CONCURRENT = 2_048
_PLACES = 96
_BRISK_S = 1.0
_LARGE = 64
_COMMITS = 2
_CONNECTIONS = 4_096
_GRACE_S = 10.0
_TOGETHER_S = 0.1  # who is late within it is looked for in one go
_FOREVER = float("inf")
_OPTIONS = (
    ("grpc.max_receive_message_length", methods.MESSAGE_BYTES),
    ("grpc.max_send_message_length", methods.REPLY_BYTES),
    ("grpc.max_metadata_size", methods.METADATA_BYTES),
    ("grpc.absolute_max_metadata_size", methods.METADATA_BYTES),
    ("grpc.compression_enabled_algorithms_bitset", 1),
    ("grpc.max_concurrent_streams", 4),
    ("grpc.max_allowed_incoming_connections", _CONNECTIONS),
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 64 << 10),
    ("grpc.http2.min_ping_interval_without_data_ms", 20_000),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),  # a client's, in a long Commit
    ("grpc.max_connection_age_ms", 600_000),
    ("grpc.max_connection_age_grace_ms", 30_000),
    ("grpc.so_reuseport", 0),
)
_RETRY_AFTER_S = {"rate-limited": 5, "busy": 1, "no-room": 30}
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a slow other side is borne, in seconds (T18): no more than 30 in any way.

    ``handshake_s``: TLS and HTTP/2 set-up. ``idle_s``: a connection without a call, or whose
    headers trickle, is closed after one to two times this; clients connect anew. ``silence_s``:
    until a ping is sent, and again as long for its answer. ``body_s``: the longest for a message,
    and for a place to read it. ``reply_s``: until the other side has taken a reply.
    """

    handshake_s: float = 10.0
    idle_s: float = 14.0
    silence_s: float = 14.0
    body_s: float = 20.0
    reply_s: float = 20.0

    @property
    def options(self) -> tuple[tuple[str, int], ...]:
        """What gRPC itself is told."""
        handshake_ms, idle_ms, silence_ms = (
            int(1_000 * seconds) for seconds in (self.handshake_s, self.idle_s, self.silence_s)
        )
        return (
            ("grpc.server_handshake_timeout_ms", handshake_ms),
            ("grpc.http2.settings_timeout", handshake_ms),
            ("grpc.max_connection_idle_ms", idle_ms),
            ("grpc.keepalive_time_ms", silence_ms),
            ("grpc.keepalive_timeout_ms", silence_ms),
        )


@dataclass(frozen=True, slots=True)
class Call:
    """One call as it arrived: the bytes that the signature covers, and who sent them."""

    method: Method
    body: bytes
    header: bytes
    signature: bytes
    peer: str


Answer = Callable[[Call], bytes]


class Server:
    """A listening gRPC server; ``port`` is the real one."""

    def __init__(
        self,
        answer: Answer,
        *,
        listen: str,
        tls: ServerTls,
        clock: Clock,
        patience: Patience | None = None,
    ) -> None:
        """Listen on HOST:PORT; port 0 takes any. Raises InputError when it cannot be had."""
        self.host = listen.rpartition(":")[0]
        self._patience = patience or Patience()
        self._clock = clock
        self._tools = Introspection(methods.SERVICES, slowest_s=self._patience.body_s)
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="rpc")
        self._small_pool = ThreadPoolExecutor(_SMALL_THREADS, thread_name_prefix="small")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="grpc", daemon=True)
        self._thread.start()
        try:
            self._server, self.port = self._do(self._open(answer, listen, tls))
        except BaseException:
            self._end()
            raise

    def stop(self) -> None:
        """Refuse new calls, let those in flight finish, close the port."""
        self._tools.serving = False
        self._do(self._server.stop(_GRACE_S))
        self._end()

    async def _open(
        self, answer: Answer, listen: str, tls: ServerTls
    ) -> tuple[grpc.aio.Server, int]:
        server = grpc.aio.server(
            options=(*_OPTIONS, *self._patience.options),
            compression=grpc.Compression.NoCompression,
        )
        desk = _Desk(answer, self._pool, self._small_pool, self._patience)
        handlers = [_handlers(service, desk, self._clock) for service in methods.SERVICES]
        server.add_generic_rpc_handlers((*handlers, *self._tools.handlers()))
        credentials = grpc.ssl_server_credentials([(tls.key, tls.chain)])
        try:
            port = server.add_secure_port(listen, credentials)
        except RuntimeError as error:
            raise _cannot_listen(listen) from error
        if port == 0:
            raise _cannot_listen(listen)
        await server.start()
        return server, port

    def _do(self, work: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._pool.shutdown()
        self._small_pool.shutdown()


class _Desk:
    """Takes calls in turn: waits for a place, for the body, for a thread; lives in the loop."""

    def __init__(
        self,
        answer: Answer,
        pool: ThreadPoolExecutor,
        small_pool: ThreadPoolExecutor,
        patience: Patience,
    ) -> None:
        self._answer = answer
        self._pool = pool
        self._small_pool = small_pool
        self._patience = patience
        self._num_calls = 0
        self._places = asyncio.Semaphore(_PLACES)
        self._small_places = asyncio.Semaphore(_PLACES)
        self._large = asyncio.Semaphore(_LARGE)
        self._commits = asyncio.Semaphore(_COMMITS)
        self._late: set[str] = set()

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
        self._pool.submit(hang_up, late)
        _LOG.warning("hung up on %d who did not take their replies", len(late))

    async def _take(self, method: Method, context: Context) -> bytes:
        if method.signer == "nobody":
            await self._place(self._large, _LARGE)
            # Until the caller took the reply, not until it was made: replies are up to 1 MiB.
            _at_end(context, self._large.release)
        places = self._small_places if _is_small(method) else self._places
        holds = False

        def let_go() -> None:
            nonlocal holds
            holds = False
            places.release()

        async def hold() -> None:
            nonlocal holds
            await self._place(places, _PLACES)
            holds = True

        await hold()
        slow = asyncio.get_running_loop().call_later(_BRISK_S, let_go)
        try:
            body = await self._in_time(context.read(), _too_slow, method.deadline_s)
            slow.cancel()
            if not holds:
                await hold()
            call = _call(method, body, context)
            if method is not methods.COMMIT:
                del body
                return await self._work(call)
        finally:
            slow.cancel()
            if holds:
                let_go()
        # Commits wait here, with a few bytes each and no thread, and keep nobody from uploading.
        await self._place(self._commits, _COMMITS)
        try:
            return await self._work(call)
        finally:
            self._commits.release()

    async def _work(self, call: Call) -> bytes:
        in_turn = _is_small(call.method) and call.method is not methods.COMMIT
        pool = self._small_pool if in_turn else self._pool
        return await asyncio.get_running_loop().run_in_executor(pool, self._answer, call)

    async def _place(self, places: asyncio.Semaphore, num: int) -> None:
        if not places.locked():  # as nearly always: no timer, no wait
            await places.acquire()
            return
        await self._in_time(places.acquire(), _no_place(num))

    async def _in_time(
        self,
        waiting: Awaitable[_T],
        error: Callable[[float], OrthoFedError],
        most_s: float = _FOREVER,
    ) -> _T:
        most_s = min(most_s, self._patience.body_s)
        try:
            async with asyncio.timeout(most_s):
                return await waiting
        except TimeoutError:
            raise error(most_s) from None


def _is_small(method: Method) -> bool:
    """Return whether a call has places of its own: a renewal waits for no chunk of others."""
    return method.request_bytes <= _SMALL_BYTES


def _at_end(context: Context, do: Callable[[], None]) -> None:
    """Call ``do`` when the other side has taken the reply, or is gone."""
    context.add_done_callback(lambda _: do())  # pyright: ignore[reportArgumentType]  # the stubs forget the context


def _handlers(service: str, desk: _Desk, clock: Clock) -> grpc.GenericRpcHandler:
    mine = {
        method.path.rpartition("/")[2]: grpc.stream_unary_rpc_method_handler(
            _handler(method, desk, clock)
        )
        for method in methods.METHODS
        if method.path.startswith(f"/{service}/")
    }
    return grpc.method_handlers_generic_handler(service, mine)


def _handler(
    method: Method, desk: _Desk, clock: Clock
) -> Callable[[object, Context], Awaitable[bytes]]:
    async def handle(_requests: object, context: Context) -> bytes:
        # Each error is answered inside its own block: a name that outlived it would tie error,
        # frame and call into a cycle, and the stream would stay open until a collection.
        try:
            return await desk.take(method, context)
        except OrthoFedError as error:
            await _refuse(context, error, clock)
        except Exception as error:  # noqa: BLE001  # the last line of defence; logged as a bug
            _LOG.error("fault in %s: %s", method.path, type(error).__name__, exc_info=error)
            await _refuse(context, _fault(), clock)

    return handle


def _call(method: Method, body: object, context: Context) -> Call:
    if not isinstance(body, bytes):
        raise InputError(
            "a call without a message",
            why="every call of the contract carries exactly one",
            fix="use an orthofed of the same version on both sides",
            code="malformed",
        )
    # T5: size before anything is looked at.
    if len(body) > method.request_bytes:
        raise InputError(
            f"a request of {len(body)} bytes, allowed are {method.request_bytes}",
            why="each call has its own limit",
            fix="use an orthofed of the same version on both sides",
            code="too-large",
        )
    metadata: Mapping[str, str | bytes] = dict(context.invocation_metadata() or ())
    return Call(
        method=method,
        body=body,
        header=_binary(metadata.get(methods.AUTH_KEY, b"")),
        signature=_binary(metadata.get(methods.SIGNATURE_KEY, b"")),
        peer=context.peer(),
    )


def _binary(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else b""


async def _refuse(context: Context, error: OrthoFedError, clock: Clock) -> NoReturn:
    status, detail, code = failure.status_of(error)
    trailers: list[tuple[str, str | bytes]] = [(methods.CODE_KEY, code)]
    if code == "bad-time":
        trailers.append((methods.NOW_KEY, str(clock.wall_s())))
    if code in _RETRY_AFTER_S:
        trailers.append((methods.RETRY_KEY, str(_RETRY_AFTER_S[code])))
    # An abort sends trailers alone, which no window holds back; a reply beside them could be.
    await context.abort(grpc.StatusCode[status], detail, tuple(trailers))
    raise AssertionError("an abort raises")


def _no_place(num: int) -> Callable[[float], OrthoFedError]:
    return lambda most_s: _busy(f"none of {num} places was free in {most_s:.0f} s")


def _busy(what: str) -> OrthoFedError:
    return Refused(
        what,
        why="the coordinator works on a bounded number of calls at once",
        fix="try again in a moment",
        code="busy",
    )


def _too_slow(most_s: float) -> OrthoFedError:
    return Unreachable(
        f"a message that was not whole after {most_s:.0f} s",
        why="a sender that trickles would hold a place that others need",
        fix="check the network and try again",
        code="too-slow",
    )


def _fault() -> OrthoFedError:
    return OrthoFedError(
        "the coordinator met something it does not know",
        why="this is a fault of the coordinator, written to its log",
        fix="try again in a moment; if it stays, tell the operator",
        code="coordinator-fault",
    )


def _cannot_listen(listen: str) -> InputError:
    return InputError(
        f"cannot listen on {listen}",
        why="the address is not this machine's, or another program has the port",
        fix="choose another address with --listen HOST:PORT; port 0 takes any",
        code="cannot-listen",
    )
