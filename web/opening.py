"""Opens the page of a running coordinator: puts reader, sessions, pages and listener together.

Laws: plain HTTP on loopback alone, anywhere else TLS with the coordinator's own certificate (T24);
the page's public address, where a proxy stands in front, is given by the operator and never read
from a request. Cost: one thread with an event loop, and Starlette's threads for pages.
"""

import re
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from ..coordinator.desk import Desk
from ..coordinator.premises import Premises
from ..core.address import bracketed
from ..core.errors import InputError, OrthoFedError
from .answers import Answers, Problem
from .door import Door
from .headers import SafeHeaders
from .history import History
from .jobs import Jobs
from .listener import Listener, is_loopback
from .live import Full, Places, Pulse
from .operator_pages import LIVE, TRAFFIC_LIVE, OperatorPages
from .public_pages import PublicPages
from .public_reader import PublicReader

_URL: Final = re.compile(
    r"https?://[A-Za-z0-9.-]+(?::[0-9]{1,5})?|https?://\[[0-9a-fA-F:]+\](?::[0-9]{1,5})?"
)


class OpenedPage:
    """A page that answers; a `Page`."""

    def __init__(
        self, address: str, port: int, places: Places, ends: Sequence[Callable[[], None]]
    ) -> None:
        """Take what was started; ``ends`` stop it, in this order."""
        self.port = port
        self._places = places
        self._ends = ends
        self.address = address

    def close(self) -> None:
        """End the streams, then stop answering."""
        self._places.closing = True
        for end in self._ends:
            end()


def opener(listen: str, url: str = "") -> Callable[[Premises], OpenedPage]:
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
    address = url or f"{listener.scheme}://{bracketed(shown)}:{listener.port}"
    reader = PublicReader(premises.answer, Desk(house).link)
    jobs = Jobs(
        house.folder.root,
        Path(house.settings.backups) if house.settings.backups else None,
        audit=premises.audit,
        clock=house.clock,
    )
    history = History(premises.meter, house.clock.wall_s)
    door = Door(premises, address=address)
    answers = Answers(lambda: house.facts.spec.name, door.session)
    desk = OperatorPages(premises, answers, door, jobs=jobs, history=history)
    places = Places()
    news, desk_news = Pulse(reader.mark, places), Pulse(desk.reader.mark, places)
    traffic_news = Pulse(history.mark, places)

    async def live(request: Request) -> Response:
        return _stream(news, places, request, lambda: False)

    def behind_the_door(pulse: Pulse) -> Callable[[Request], Awaitable[Response]]:
        async def stream(request: Request) -> Response:
            def is_over() -> bool:
                return door.session(request, seen=False) is None

            if is_over():
                return Response(status_code=401)
            return _stream(pulse, places, request, is_over)

        return stream

    async def refused(request: Request, error: Exception) -> Response:
        return answers.refused(request, error)

    async def unknown(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        problem = Problem("There is no such page", "There is nothing at this address.")
        return answers.page(request, "problem.html", problem, status=status)

    app = Starlette(
        routes=[
            *PublicPages(reader, answers).routes(),
            *door.routes(answers),
            *desk.routes(),
            Route("/live", live, methods=["GET"]),
            Route(LIVE, behind_the_door(desk_news), methods=["GET"]),
            Route(TRAFFIC_LIVE, behind_the_door(traffic_news), methods=["GET"]),
        ],
        exception_handlers={OrthoFedError: refused, HTTPException: unknown, Exception: refused},
    )
    hosts = {f"{name}:{listener.port}" for name in _names(house.settings.hostnames, shown)}
    listener.start(SafeHeaders(app, hosts={*hosts, address.partition("//")[2].lower()}))
    return OpenedPage(address, listener.port, places, (listener.close, history.close, jobs.close))


_ANY: Final = ("0.0.0.0", "::", "")  # noqa: S104  # compared, not bound


def _names(hostnames: tuple[str, ...], shown: str) -> set[str]:
    names = (*hostnames, shown, "localhost", "127.0.0.1")
    return {bracketed(each).lower() for each in names}


def _stream(pulse: Pulse, places: Places, request: Request, until: Callable[[], bool]) -> Response:
    """Return a stream of events, or 503 when there are enough."""
    address = "" if request.client is None else request.client.host
    try:
        places.take(address)
    except Full:
        return Response("enough pages follow this already\n", 503, {"retry-after": "60"})
    seen = request.headers.get("last-event-id") or request.query_params.get("seen", "")
    body = pulse.follow(address, until=until, seen=seen)
    return StreamingResponse(body, media_type="text/event-stream")
