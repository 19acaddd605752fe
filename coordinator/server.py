"""The gRPC shell: moves bytes between the network and the service, and decides nothing.

Laws: TLS always; handlers have no deserialiser, because signatures cover the bytes that arrived
(security.md 4.4); every limit of security.md 5 is set here; every failure leaves with a typed
status and the trailer ``orthofed-code``, and what nobody foresaw is UNAVAILABLE and logged, never
UNKNOWN or INTERNAL. Compression is off (T6). All calls are unary on the wire; the server takes them
as streams of one message, because only then it can stop waiting for a body that trickles (T18): a
slow sender costs no thread, and is cut after the call's deadline. Whose turn it is, and how much
memory calls may take, is for reception.py.
"""

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, NoReturn, TypeVar

import grpc

from ..core.errors import InputError, OrthoFedError
from ..proto import failure, methods
from ..proto.methods import Method
from .call import Answer, Call
from .clock import Clock
from .introspection import Context, Introspection
from .meter import FAULT, OK, Meter
from .patience import Patience
from .reception import Reception
from .tls import ServerTls

_LOG = logging.getLogger("orthofed.coordinator")
_CONNECTIONS = 4_096
_PENDING = 2_048
"""Calls that the loop has not looked at yet. gRPC ends what is over it as CANCELLED, which says
nothing; by itself it begins with that at 1,000, and two chunks of each client are more."""
_GRACE_S = 10.0
_OPTIONS = (
    ("grpc.max_receive_message_length", methods.MESSAGE_BYTES),
    ("grpc.max_send_message_length", methods.REPLY_BYTES),
    ("grpc.max_metadata_size", methods.METADATA_BYTES),
    ("grpc.absolute_max_metadata_size", methods.METADATA_BYTES),
    ("grpc.compression_enabled_algorithms_bitset", 1),
    ("grpc.max_concurrent_streams", 4),
    ("grpc.max_allowed_incoming_connections", _CONNECTIONS),
    ("grpc.server.max_pending_requests", _PENDING),
    ("grpc.server.max_pending_requests_hard_limit", _PENDING),
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 16 << 10),
    ("grpc.http2.min_ping_interval_without_data_ms", 20_000),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),  # a client's, in a long Commit
    ("grpc.max_connection_age_ms", 600_000),
    ("grpc.max_connection_age_grace_ms", 30_000),
    ("grpc.so_reuseport", 0),
)
_RETRY_AFTER_S = {"rate-limited": 5, "busy": 1, "no-room": 30}
_GONE = "gone"
"""What the meter calls a call whose caller left before it was answered."""
_T = TypeVar("_T")


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
        meter: Meter | None = None,
    ) -> None:
        """Listen on HOST:PORT; port 0 takes any; calls are counted by ``meter``.

        Raises InputError when the port cannot be had.
        """
        self.host = listen.rpartition(":")[0]
        self._patience = patience or Patience()
        self._clock = clock
        self._tools = Introspection(methods.SERVICES, slowest_s=self._patience.body_s)
        self.meter = meter or Meter()
        self._reception = Reception(self._call, answer, self._patience)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="grpc", daemon=True)
        self._thread.start()
        try:
            self._server, self.port = self._do(self._open(listen, tls))
        except BaseException:
            self._end()
            raise

    def stop(self) -> None:
        """Refuse new calls, let those in flight finish, close the port."""
        self._tools.serving = False
        self._do(self._server.stop(_GRACE_S))
        self._end()

    async def _open(self, listen: str, tls: ServerTls) -> tuple[grpc.aio.Server, int]:
        server = grpc.aio.server(
            options=(*_OPTIONS, *self._patience.options),
            compression=grpc.Compression.NoCompression,
        )
        handlers = [
            _handlers(service, self._reception, self.meter, self._clock)
            for service in methods.SERVICES
        ]
        server.add_generic_rpc_handlers((*handlers, *self._tools.handlers()))
        credentials = grpc.ssl_server_credentials(
            [(tls.key, tls.chain)],
            root_certificates=tls.client_ca or None,
            require_client_auth=bool(tls.client_ca),
        )
        try:
            port = server.add_secure_port(listen, credentials)
        except RuntimeError as error:
            raise _cannot_listen(listen) from error
        if port == 0:
            raise _cannot_listen(listen)
        await server.start()
        return server, port

    def _call(self, method: Method, body: object, context: Context) -> Call:
        call = _call(method, body, context)
        self.meter.arrived(method, len(call.body))
        return call

    def _do(self, work: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._reception.close()


def _handlers(
    service: str, reception: Reception, meter: Meter, clock: Clock
) -> grpc.GenericRpcHandler:
    mine = {
        method.path.rpartition("/")[2]: grpc.stream_unary_rpc_method_handler(
            _handler(method, reception, meter, clock)
        )
        for method in methods.METHODS
        if method.path.startswith(f"/{service}/")
    }
    return grpc.method_handlers_generic_handler(service, mine)


def _handler(
    method: Method, reception: Reception, meter: Meter, clock: Clock
) -> Callable[[object, Context], Awaitable[bytes]]:
    async def handle(_requests: object, context: Context) -> bytes:
        # Each error is answered inside its own block: a name that outlived it would tie error,
        # frame and call into a cycle, and the stream would stay open until a collection.
        began_s, code = clock.monotonic_s(), _GONE
        meter.began()
        try:
            reply = await reception.take(method, context)
        except OrthoFedError as error:
            code = error.code
            await _refuse(context, error, clock)
        except Exception as error:  # noqa: BLE001  # the last line of defence; logged as a bug
            _LOG.error("fault in %s: %s", method.path, type(error).__name__, exc_info=error)
            code = FAULT
            await _refuse(context, _fault(), clock)
        else:
            code = OK
            meter.answered(method, len(reply))
            return reply
        finally:
            meter.ended(method, code, clock.monotonic_s() - began_s)

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


def _fault() -> OrthoFedError:
    return OrthoFedError(
        "the coordinator met something it does not know",
        why="this is a fault of the coordinator, written to its log",
        fix="try again in a moment; if it stays, tell the operator",
        code=FAULT,
    )


def _cannot_listen(listen: str) -> InputError:
    return InputError(
        f"cannot listen on {listen}",
        why="the address is not this machine's, or another program has the port",
        fix="choose another address with --listen HOST:PORT; port 0 takes any",
        code="cannot-listen",
    )
