"""Opens the page of a running coordinator: puts reader, sessions, pages and listener together.

Laws: plain HTTP on loopback alone, anywhere else TLS with the coordinator's own certificate (T24);
the page's public address, where a proxy stands in front, is given by the operator and never read
from a request. Cost: one thread with an event loop, and Starlette's threads for pages.
"""

import re
from typing import Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from ..coordinator.desk import Desk
from ..coordinator.premises import OpenPage, Premises
from ..core.errors import InputError, OrthoFedError
from .answers import Answers, Problem
from .headers import SafeHeaders
from .listener import Listener, is_loopback
from .live import Full, Places, Pulse
from .public_pages import PublicPages
from .public_reader import PublicReader

_URL: Final = re.compile(
    r"https?://[A-Za-z0-9.-]+(?::[0-9]{1,5})?|https?://\[[0-9a-fA-F:]+\](?::[0-9]{1,5})?"
)


class OpenedPage:
    """A page that answers; a `Page`."""

    def __init__(self, listener: Listener, address: str, places: Places) -> None:
        """Take what was started."""
        self._listener = listener
        self._places = places
        self.address = address

    def close(self) -> None:
        """End the streams, then stop answering."""
        self._places.closing = True
        self._listener.close()


def opener(listen: str, url: str = "") -> OpenPage:
    """Return what opens the page on HOST:PORT; ``url`` is its public address behind a proxy.

    Raises InputError: the address is none.
    """
    if url and not _URL.fullmatch(url):
        raise InputError(
            f"a page's address of {len(url)} characters",
            why="it is https://HOST or https://HOST:PORT, without a path",
            fix="correct web_url in coordinator.toml, or --web-url",
            code="bad-option",
        )
    return lambda premises: _open(premises, listen, url)


def _open(premises: Premises, listen: str, url: str) -> OpenedPage:
    house = premises.house
    loopback = is_loopback(listen.rpartition(":")[0])
    listener = Listener(listen, None if loopback else house.folder.keys / "tls-server.pem")
    shown = house.settings.hostnames[0] if listener.host in _ANY else listener.host
    bracketed = f"[{shown}]" if ":" in shown else shown
    address = url or f"{listener.scheme}://{bracketed}:{listener.port}"
    reader = PublicReader(premises.answer, Desk(house).link)
    answers = Answers(lambda: house.facts.spec.name, lambda _: None)
    places = Places()
    pulse = Pulse(reader.mark, places)

    async def live(request: Request) -> Response:
        return stream(pulse, places, request)

    async def refused(request: Request, error: Exception) -> Response:
        return answers.refused(request, error)

    async def unknown(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        problem = Problem("There is no such page", "There is nothing at this address.")
        return answers.page(request, "problem.html", problem, status=status)

    app = Starlette(
        routes=[*PublicPages(reader, answers).routes(), Route("/live", live, methods=["GET"])],
        exception_handlers={OrthoFedError: refused, HTTPException: unknown, Exception: refused},
    )
    hosts = {f"{name}:{listener.port}" for name in _names(house.settings.hostnames, bracketed)}
    listener.start(SafeHeaders(app, hosts={*hosts, address.partition("//")[2].lower()}))
    return OpenedPage(listener, address, places)


_ANY: Final = ("0.0.0.0", "::", "")  # noqa: S104  # compared, not bound


def _names(hostnames: tuple[str, ...], shown: str) -> set[str]:
    return {each.lower() for each in (*hostnames, shown, "localhost", "127.0.0.1")}


def stream(pulse: Pulse, places: Places, request: Request) -> Response:
    """Return a stream of events, or 503 when there are enough."""
    address = "" if request.client is None else request.client.host
    try:
        places.take(address)
    except Full:
        return Response("enough pages follow this already\n", 503, {"retry-after": "60"})
    body = pulse.follow(address, until=lambda: False)
    return StreamingResponse(body, media_type="text/event-stream")
