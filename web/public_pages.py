"""The public pages over HTTP: each reads facts, makes a view of them, and renders it.

Law: it decides nothing; what may be shown is decided by what the reader can get, how it is said by
the views. Every page is a GET without a cookie.
"""

from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from ..core.errors import Refused
from . import ledger_views, picker, public_views
from .answers import Answers
from .live import tag
from .public_reader import PublicReader
from .rendering import ASSETS

if TYPE_CHECKING:
    from collections.abc import Callable

_LIVE = "/live"
_DIGITS = 12


class PublicPages:
    """The routes that anyone may ask for."""

    def __init__(self, reader: PublicReader, answers: Answers) -> None:
        """Read by ``reader``."""
        self._reader = reader
        self._answers = answers

    def routes(self) -> list[Route]:
        """Return the routes."""
        pages: list[tuple[str, Callable[[Request], Response]]] = [
            ("/", self._home),
            ("/concepts", self._concepts),
            ("/picker", self._picker),
            ("/releases", self._releases),
            ("/releases/{n}", self._release),
            ("/releases/{n}/samples/{name}", self._sample),
            ("/ledger", self._ledger),
            ("/ledger/{index}", self._leaf),
            ("/privacy", self._privacy),
            ("/static/{name}", _static),
            ("/favicon.ico", lambda _: RedirectResponse("/static/mark.svg", 301)),
            ("/robots.txt", lambda _: Response("User-agent: *\nDisallow: /operator\n")),
        ]
        return [Route(path, page, methods=["GET"]) for path, page in pages]

    def _live(self) -> str:
        """Return the stream of a page that is about to look: what comes later is news to it."""
        return f"{_LIVE}?seen={tag(self._reader.mark())}"

    def _home(self, request: Request) -> Response:
        live = self._live()
        view = public_views.home(self._reader.federation(), self._reader.newest())
        return self._answers.page(request, "home.html", view, live=live)

    def _concepts(self, request: Request) -> Response:
        numbers = self._reader.releases()
        view = None
        if numbers:
            asked = request.query_params
            release = self._reader.release(_number(asked.get("release"), numbers[-1]))
            view = public_views.concepts(
                release, numbers, query=asked.get("q", ""), page=_number(asked.get("page"), 1)
            )
        return self._answers.page(request, "concepts.html", view)

    def _picker(self, request: Request) -> Response:
        numbers = self._reader.releases()
        view = None
        if numbers:
            asked = request.query_params
            release = self._reader.release(_number(asked.get("release"), numbers[-1]))
            fields = {key: asked.getlist(key) for key in asked}
            view = picker.picker(self._reader.federation(), release, fields)
        return self._answers.page(request, "picker.html", view)

    def _releases(self, request: Request) -> Response:
        live = self._live()
        federation = self._reader.federation()
        views = [
            public_views.release(federation, self._reader.release(n))
            for n in reversed(self._reader.releases()[-_MOST_RELEASES:])
        ]
        return self._answers.page(request, "releases.html", views, live=live)

    def _release(self, request: Request) -> Response:
        n = _number(request.path_params["n"], -1)
        if n < 1:
            raise absent()
        view = public_views.release(self._reader.federation(), self._reader.release(n))
        return self._answers.page(request, "release.html", view)

    def _sample(self, request: Request) -> Response:
        n, name = _number(request.path_params["n"], -1), request.path_params["name"]
        if n < 1 or not name.endswith(".png"):
            raise absent()
        data = self._reader.picture(n, name.removesuffix(".png"))
        kept = {"cache-control": "public, max-age=86400, immutable"}  # a release never changes
        return Response(data, media_type="image/png", headers=kept)

    def _ledger(self, request: Request) -> Response:
        live = self._live()
        state = self._reader.ledger()
        at = request.query_params.get("at")
        start, end = ledger_views.page_bounds(
            state.size, None if at is None else _number(at, state.size - 1)
        )
        view = ledger_views.ledger(state, self._reader.leaves(start, end, size=state.size))
        return self._answers.page(request, "ledger.html", view, live="" if at else live)

    def _leaf(self, request: Request) -> Response:
        proof = self._reader.proof(_number(request.path_params["index"], -1))
        view = ledger_views.leaf(self._reader.federation(), proof)
        return self._answers.page(request, "leaf.html", view)

    def _privacy(self, request: Request) -> Response:
        return self._answers.page(request, "privacy.html", public_views.statements())


_MOST_RELEASES = 50


def absent() -> Refused:
    """Return the error for an address that leads nowhere."""
    return Refused(
        "there is nothing at this address",
        why="it was mistyped, or what was there is gone",
        fix="begin at the first page",
        code="not-found",
    )


def _number(text: str | None, default: int) -> int:
    """Return a number that a caller wrote; what is none, or too long, is the default."""
    fits = text is not None and text.isascii() and text.isdecimal() and len(text) <= _DIGITS
    return int(text or "0") if fits else default


def _static(request: Request) -> Response:
    asset = ASSETS.get(request.path_params["name"])  # T10: looked up, never a path
    if asset is None:
        raise absent()
    same = request.query_params.get("v") == asset.version
    kept = "public, max-age=31536000, immutable" if same else "no-cache"
    return Response(asset.data, media_type=asset.media_type, headers={"cache-control": kept})
