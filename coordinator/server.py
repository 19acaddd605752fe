"""The gRPC shell: moves bytes between the network and the service, and decides nothing.

Laws: TLS always; handlers have no deserialiser, because signatures cover the bytes that arrived
(security.md 4.4); every limit of security.md 5 is set here; every failure leaves with a typed
status and the trailer ``orthofed-code``, and what nobody foresaw is UNAVAILABLE and logged, never
UNKNOWN or INTERNAL. Compression is off (T6), all calls are unary (T18).
"""

import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from ..core.errors import InputError, OrthoFedError
from ..proto import failure, methods
from ..proto.methods import Method
from .tls import ServerTls

_LOG = logging.getLogger("orthofed.coordinator")
_THREADS = 32
_CONCURRENT = 128
_GRACE_S = 10.0
_OPTIONS = (
    ("grpc.max_receive_message_length", methods.MESSAGE_BYTES),
    ("grpc.max_send_message_length", methods.REPLY_BYTES),
    ("grpc.max_metadata_size", methods.METADATA_BYTES),
    ("grpc.absolute_max_metadata_size", methods.METADATA_BYTES),
    ("grpc.compression_enabled_algorithms_bitset", 1),
    ("grpc.max_concurrent_streams", 4),
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 64 << 10),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 20_000),
    ("grpc.max_connection_age_ms", 600_000),
    ("grpc.max_connection_age_grace_ms", 30_000),
    ("grpc.max_connection_idle_ms", 120_000),
    ("grpc.so_reuseport", 0),
)
_RETRY_AFTER_S = {"rate-limited": 5, "busy": 1, "no-room": 30}


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

    def __init__(self, answer: Answer, *, listen: str, tls: ServerTls) -> None:
        """Listen on HOST:PORT; port 0 takes any. Raises InputError when it cannot be had."""
        self._server = grpc.server(
            ThreadPoolExecutor(_THREADS, thread_name_prefix="rpc"),
            options=_OPTIONS,
            maximum_concurrent_rpcs=_CONCURRENT,
            compression=grpc.Compression.NoCompression,
        )
        self._health = health.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        for service in methods.SERVICES:
            self._server.add_generic_rpc_handlers((_handlers(service, answer),))
        names = (*methods.SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)
        credentials = grpc.ssl_server_credentials([(tls.key, tls.chain)])
        self.host = listen.rpartition(":")[0]
        try:
            self.port = self._server.add_secure_port(listen, credentials)
        except RuntimeError as error:
            raise _cannot_listen(listen) from error
        if self.port == 0:
            raise _cannot_listen(listen)
        self._server.start()
        self._say(health_pb2.HealthCheckResponse.SERVING)

    def stop(self) -> None:
        """Refuse new calls, let those in flight finish, close the port."""
        self._say(health_pb2.HealthCheckResponse.NOT_SERVING)
        self._server.stop(_GRACE_S).wait()

    def _say(self, state: health_pb2.HealthCheckResponse.ServingStatus) -> None:
        for service in ("", *methods.SERVICES):
            self._health.set(service, state)


def _handlers(service: str, answer: Answer) -> grpc.GenericRpcHandler:
    mine = {
        method.path.rpartition("/")[2]: grpc.unary_unary_rpc_method_handler(
            _handler(method, answer)
        )
        for method in methods.METHODS
        if method.path.startswith(f"/{service}/")
    }
    return grpc.method_handlers_generic_handler(service, mine)


def _handler(method: Method, answer: Answer) -> Callable[[bytes, grpc.ServicerContext], bytes]:
    def handle(body: bytes, context: grpc.ServicerContext) -> bytes:
        # Each error is answered inside its own block: a name that outlived it would tie error,
        # frame and call into a cycle, and the stream would stay open until a collection.
        try:
            return answer(_call(method, body, context))
        except OrthoFedError as error:
            return _refuse(context, error)
        except Exception as error:  # noqa: BLE001  # the last line of defence; logged as a bug
            _LOG.error("fault in %s: %s", method.path, type(error).__name__, exc_info=error)
            return _refuse(context, _fault())

    return handle


def _call(method: Method, body: bytes, context: grpc.ServicerContext) -> Call:
    # T5: size before anything is looked at.
    if len(body) > method.request_bytes:
        raise InputError(
            f"a request of {len(body)} bytes, allowed are {method.request_bytes}",
            why="each call has its own limit",
            fix="use an orthofed of the same version on both sides",
            code="too-large",
        )
    metadata: Mapping[str, str | bytes] = dict(context.invocation_metadata())
    return Call(
        method=method,
        body=body,
        header=_binary(metadata.get(methods.AUTH_KEY, b"")),
        signature=_binary(metadata.get(methods.SIGNATURE_KEY, b"")),
        peer=context.peer(),
    )


def _binary(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else b""


def _refuse(context: grpc.ServicerContext, error: OrthoFedError) -> bytes:
    status, detail, code = failure.status_of(error)
    trailers: list[tuple[str, str | bytes]] = [(methods.CODE_KEY, code)]
    if code == "bad-time":
        trailers.append((methods.NOW_KEY, str(int(time.time()))))
    if code in _RETRY_AFTER_S:
        trailers.append((methods.RETRY_KEY, str(_RETRY_AFTER_S[code])))
    context.set_trailing_metadata(tuple(trailers))
    context.set_code(grpc.StatusCode[status])
    context.set_details(detail)
    return b""


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
