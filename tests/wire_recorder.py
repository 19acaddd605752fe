"""A coordinator's only peer that is no coordinator: it reads every call and hands it on.

It ends the TLS of the client with the coordinator's own certificate, so it sees what the network
does not: path, all metadata, message, reply, trailers and error text, in both directions, after
decryption and after HPACK. The signatures name the ledger and not the address, so they stay good.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc

from orthofed.proto import methods

_PASSED_ON = (methods.AUTH_KEY, methods.SIGNATURE_KEY)


class WireRecorder:
    """Everything that crossed; ``sent`` left the client, ``received`` came back."""

    def __init__(self, upstream: str, keys: Path) -> None:
        """Prepare to hand calls on to ``upstream``; ``keys`` is the coordinator's own folder."""
        self.sent: list[tuple[str, bytes]] = []
        self.received: list[tuple[str, bytes]] = []
        chain = (keys / "tls-server.pem").read_bytes()
        key, _, certificate = chain.partition(b"-----BEGIN CERTIFICATE-----")
        authority = (keys / "tls-ca.pem").read_bytes()
        pair = (key, b"-----BEGIN CERTIFICATE-----" + certificate + authority)
        options = [("grpc.max_receive_message_length", methods.REPLY_BYTES)]
        credentials = grpc.ssl_channel_credentials(authority)
        self._upstream = grpc.secure_channel(upstream, credentials, options=options)
        self._server = grpc.server(ThreadPoolExecutor(4), options=options)
        self._server.add_generic_rpc_handlers((_Handlers(self._pass_on),))
        port = self._server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
        self.address = f"127.0.0.1:{port}"

    @contextmanager
    def running(self) -> Iterator["WireRecorder"]:
        """Record until the block ends."""
        self._server.start()
        try:
            yield self
        finally:
            self._server.stop(None).wait()
            self._upstream.close()

    def _pass_on(self, path: str, body: bytes, context: Any) -> bytes:
        metadata = context.invocation_metadata()
        for name, value in metadata:
            self.sent.append((f"{path} {name}", _bytes(name) + b"=" + _bytes(value)))
        self.sent.append((path, body))
        handed = tuple((name, value) for name, value in metadata if name in _PASSED_ON)
        try:
            reply, call = self._upstream.unary_unary(path).with_call(
                body, metadata=handed, timeout=60
            )
        except grpc.RpcError as error:
            failed: Any = error
            trailers = tuple(failed.trailing_metadata() or ())
            self._take(f"{path} refused", trailers, (failed.details() or "").encode())
            context.set_trailing_metadata(trailers)
            context.abort(failed.code(), failed.details())
            raise AssertionError("an abort raises") from error
        self._take(path, tuple(call.trailing_metadata() or ()), reply)
        return reply

    def _take(self, path: str, trailers: tuple[tuple[str, Any], ...], data: bytes) -> None:
        self.received.append((path, data))
        for name, value in trailers:
            self.received.append((f"{path} {name}", _bytes(name) + b"=" + _bytes(value)))


class _Handlers(grpc.GenericRpcHandler):
    """Takes every call, known or not."""

    def __init__(self, take: Any) -> None:
        self._take = take

    def service(self, handler_call_details: Any) -> Any:
        path = handler_call_details.method
        return grpc.unary_unary_rpc_method_handler(
            lambda body, context: self._take(path, body, context)
        )


def _bytes(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else value
