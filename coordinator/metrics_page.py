"""``/metrics`` over plain HTTP, for a Prometheus beside the coordinator (OpenMetrics 1.0 and text).

Laws: off unless ``metrics`` in coordinator.toml says where to listen; numbers alone, which name no
person, concept or address; nothing can be changed through it. It has no password: let it listen on
loopback or on a network that only the monitoring reaches. Who trickles is cut after ``_TIMEOUT_S``,
and no more than ``_AT_ONCE`` are answered at a time.
"""

import socketserver
import threading
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import make_wsgi_app
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from ..core.errors import InputError
from .gauges import Gauges
from .house import House
from .meter import Meter

_TIMEOUT_S = 10.0
_AT_ONCE = 8


class MetricsPage:
    """Answers scrapes until it is closed; ``address`` has the real port."""

    def __init__(self, listen: str, meter: Meter, house: House) -> None:
        """Listen on HOST:PORT. Raises InputError when it cannot be had."""
        registry = meter.registry
        registry.register(Gauges(house))
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)
        host, _, port = listen.rpartition(":")
        try:
            if not host:
                raise ValueError("it names no host")  # noqa: TRY301  # as int() does
            self._server = _Server((host.strip("[]"), int(port)), _Handler)
        except (OSError, ValueError, OverflowError) as error:
            raise InputError(
                f"cannot serve metrics on {listen}",
                why=str(getattr(error, "strerror", None) or error),
                fix="correct metrics in coordinator.toml, or --metrics, to HOST:PORT",
                code="cannot-listen",
            ) from error
        self._server.set_app(make_wsgi_app(registry))
        self.address = f"http://{host}:{self._server.server_port}/metrics"
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="metrics", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(WSGIRequestHandler):
    timeout = _TIMEOUT_S

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base's name
        """Say nothing: a scrape every few seconds is no news."""

    def address_string(self) -> str:
        return ""  # no look-up of a name for each caller


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, *args: object, **kwargs: object) -> None:
        self._places = threading.BoundedSemaphore(_AT_ONCE)
        super().__init__(*args, **kwargs)  # pyright: ignore[reportArgumentType]  # as it takes them

    def process_request(self, request: object, client_address: object) -> None:
        if not self._places.acquire(blocking=False):
            self.shutdown_request(request)  # pyright: ignore[reportArgumentType]  # the base's own type
            return
        super().process_request(request, client_address)  # pyright: ignore[reportArgumentType]

    def process_request_thread(self, request: object, client_address: object) -> None:
        try:
            super().process_request_thread(request, client_address)  # pyright: ignore[reportArgumentType]
        finally:
            self._places.release()
