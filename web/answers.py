"""How a page leaves: HTML, a problem in three parts, a redirect; and the frame around each.

Law: every refusal of the coordinator becomes a page with what, why and what to do, under the status
that fits its code; what nobody foresaw says so without a word of its inside (T27).
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from ..core.errors import OrthoFedError, VerificationFailed
from ..proto import failure
from .rendering import Chrome, NavItem, Rendering
from .sessions import Session
from .wording import legible

_LOG = logging.getLogger("orthofed.page")
_STATUS: Final = {
    "INVALID_ARGUMENT": 400,
    "UNAUTHENTICATED": 403,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "FAILED_PRECONDITION": 409,
    "RESOURCE_EXHAUSTED": 429,
}
_PUBLIC: Final = (
    ("/concepts", "Concepts"),
    ("/picker", "Picker"),
    ("/releases", "Releases"),
    ("/ledger", "Ledger"),
    ("/privacy", "Privacy"),
)
_DESK: Final = (
    ("/operator", "Overview"),
    ("/operator/contributions", "Contributions"),
    ("/operator/evaluation", "Retention"),
    ("/operator/traffic", "Traffic"),
    ("/operator/releases", "Publish"),
    ("/operator/invites", "Invites"),
    ("/operator/backups", "Backups"),
)


@dataclass(frozen=True, slots=True)
class Problem:
    """Why there is no page."""

    heading: str
    what: str
    why: str = ""
    fix: str = ""


class Answers:
    """Makes every answer of HTML."""

    def __init__(
        self, name: Callable[[], str], session: Callable[[Request], Session | None]
    ) -> None:
        """``name`` is the federation's; ``session`` that of a request, if it has one."""
        self._rendering = Rendering()
        self._name = name
        self._session = session

    def page(
        self, request: Request, template: str, page: object, *, live: str = "", status: int = 200
    ) -> Response:
        """Return one page; ``live`` is the stream that it follows, from what it shows on."""
        path, session = request.url.path, self._session(request)
        chrome = Chrome(
            name=legible(self._name(), 60),
            nav=_nav(_PUBLIC, path),
            live=live,
            desk=() if session is None else _nav(_DESK, path),
            csrf="" if session is None else session.csrf,
            who="" if session is None else legible(session.who, 40),
        )
        return HTMLResponse(self._rendering.html(template, page, chrome), status)

    def refused(self, request: Request, error: Exception) -> Response:
        """Return the page of an OrthoFedError, or of what nobody foresaw."""
        if not isinstance(error, OrthoFedError):
            _LOG.error("fault in the page: %s", type(error).__name__, exc_info=error)
            problem = Problem(
                "Something broke", "The page met a fault of its own.", fix="Try again."
            )
            return self.page(request, "problem.html", problem, status=500)
        status = _STATUS.get(failure.status_of(error)[0], 503)
        if isinstance(error, VerificationFailed):  # our own files: the reader did nothing wrong
            status = 503
        heading = "There is no such page" if status == 404 else "That did not work"  # noqa: PLR2004  # HTTP
        problem = Problem(
            heading, _sentence(error.what), _sentence(error.why), _sentence(error.fix)
        )
        return self.page(request, "problem.html", problem, status=status)


def _sentence(text: str) -> str:
    """Return an error's clause as a sentence."""
    text = legible(text, 400)
    return f"{text[:1].upper()}{text[1:]}" + ("" if text.endswith(".") else ".")


def _nav(items: tuple[tuple[str, str], ...], path: str) -> tuple[NavItem, ...]:
    def here(href: str) -> bool:
        return path == href or (href != "/operator" and path.startswith(f"{href}/"))

    return tuple(NavItem(href, text, here(href)) for href, text in items)
