"""The web server: uvicorn in a thread of the coordinator, and who trickles is cut (T18).

Laws: off loopback there is TLS or nothing (T24), with the coordinator's own certificate; a
connection has ``_HEADERS_S`` for the headers of each request and ``_TAKE_S`` to take what was
written; no more than ``_CONNECTIONS`` are open. It reads no proxy header, so an address is that of
who connected.
"""

import asyncio
import ipaddress
import socket
import threading
import time
from pathlib import Path
from typing import Any, Final

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from ..core.errors import InputError, OrthoFedError

_HEADERS_S: Final = 10.0
_TAKE_S: Final = 20.0
_CONNECTIONS: Final = 256
_START_S: Final = 30.0
_GRACE_S: Final = 2


class Listener:
    """Serves one application until it is closed; ``port`` is the real one."""

    def __init__(self, listen: str, certificate: Path | None = None) -> None:
        """Take HOST:PORT; ``certificate`` is a PEM file with key and chain, None for plain HTTP.

        Raises InputError: it cannot be had.
        """
        host, _, port = listen.rpartition(":")
        self.host = host.strip("[]")
        self._certificate = certificate
        try:
            if not host:
                raise ValueError("it names no host")  # noqa: TRY301  # as int() does
            family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
            self._socket = socket.create_server((self.host, int(port)), family=family, backlog=128)
        except (OSError, ValueError, OverflowError) as error:
            raise InputError(
                f"cannot serve the page on {listen}",
                why=str(getattr(error, "strerror", None) or error),
                fix="correct web in coordinator.toml, or --web, to HOST:PORT",
                code="cannot-listen",
            ) from error
        self.port: int = self._socket.getsockname()[1]

    @property
    def scheme(self) -> str:
        """``http`` or ``https``."""
        return "http" if self._certificate is None else "https"

    def start(self, app: ASGIApp) -> None:
        """Serve ``app`` from a thread of its own; return when it answers."""
        certificate = None if self._certificate is None else str(self._certificate)
        config = uvicorn.Config(
            app,
            http=_Patient,
            ws="none",
            lifespan="off",
            loop="asyncio",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=_CONNECTIONS,
            timeout_keep_alive=5,
            timeout_graceful_shutdown=_GRACE_S,
            h11_max_incomplete_event_size=32 << 10,
            ssl_certfile=certificate,
            ssl_keyfile=certificate,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, args=([self._socket],), name="page", daemon=True
        )
        self._thread.start()
        until = time.monotonic() + _START_S
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > until:
                raise OrthoFedError(
                    "the page does not start",
                    why=f"its server did not answer within {_START_S:.0f} s",
                    fix="look at what it wrote to stderr, and start again",
                    code="page-does-not-start",
                )
            time.sleep(0.01)

    def close(self) -> None:
        """Stop answering."""
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches ``host``.

    >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("0.0.0.0")
    (True, True, False)
    """
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


class _Patient(H11Protocol):
    """One connection, with an end to waiting for headers and for a reader."""

    _headers: asyncio.TimerHandle | None = None
    _taking: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:  # noqa: ANN401  # the base's type is not public
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        for timer in (self._headers, self._taking):
            if timer is not None:
                timer.cancel()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._taking = self.loop.call_later(_TAKE_S, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._taking is not None:
            self._taking.cancel()

    def _watch(self) -> None:
        """Start the clock when headers are awaited, stop it when they are there."""
        if self.cycle is not None and not self.cycle.response_complete:
            if self._headers is not None:
                self._headers.cancel()
                self._headers = None
        elif self._headers is None:
            self._headers = self.loop.call_later(_HEADERS_S, self._late)

    def _late(self) -> None:
        self._headers = None
        if self.cycle is None or self.cycle.response_complete:
            self.transport.abort()
