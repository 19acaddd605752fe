"""The door to the operator's pages: who is in, who gets in, and whose forms are taken.

Laws: nothing behind it answers without a session; every change is a POST with the session's CSRF
word, from this page's own origin, within a rate. A wrong login link costs a place in a bucket, a
right one does not, so nobody can keep the operator out by guessing (T1); following a link shows a
button and spends nothing, since mail programs follow links too. Not here: which links are good
(coordinator/logins.py), how long a session lasts (sessions.py).
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final
from urllib.parse import parse_qs

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from ..coordinator.limits import Buckets, network_of
from ..coordinator.premises import Premises
from ..core.errors import InputError, Refused
from .answers import Answers
from .sessions import LIFE_S, Session, Sessions

BY: Final = "by the page"
"""Stands behind a name in the audit log."""
NOBODY: Final = f"nobody, {BY}"
_BODY_S: Final = 10.0
_MOST_FIELDS: Final = 16
_MOST_WORD: Final = 200
Fields = Mapping[str, str]
Look = Callable[[Request], Response]
Act = Callable[[Request, Session, Fields], Response]


class Door:
    """Knows the sessions of one page; ``address`` is the page's own origin."""

    def __init__(self, premises: Premises, *, address: str) -> None:
        """Start with nobody in."""
        self._premises = premises
        self._sessions = Sessions()
        self._address = address
        self._clock = premises.house.clock
        self._guesses = Buckets(per_s=5 / 60, burst=5)
        self._posts = Buckets(per_s=1.0, burst=30)
        self._is_https = address.startswith("https:")
        self.cookie = "__Host-orthofed" if self._is_https else "orthofed"

    def session(self, request: Request, *, seen: bool = True) -> Session | None:
        """Return the session of a request, if it has one."""
        cookie = request.cookies.get(self.cookie, "")
        now_s = self._clock.monotonic_s()
        return self._sessions.find(cookie, now_s, seen=seen) if cookie else None

    def routes(self, answers: Answers) -> list[Route]:
        """Return login and logout."""

        def shown(request: Request) -> Response:
            word = request.query_params.get("word", "")[:_MOST_WORD]
            return answers.page(request, "login.html", {"word": word})

        return [
            Route("/operator/login", shown, methods=["GET"]),
            Route("/operator/login", self._login, methods=["POST"]),
            Route("/operator/logout", self.done(self._logout), methods=["POST"]),
        ]

    def seen(self, look: Look, answers: Answers) -> Look:
        """Return ``look`` for who is in, and the way in for anybody else."""

        def answer(request: Request) -> Response:
            if self.session(request) is None:
                return answers.page(request, "login.html", {"word": ""}, status=401)
            return look(request)

        return answer

    def done(self, act: Act) -> Callable[[Request], Awaitable[Response]]:
        """Return ``act`` for a form that a session made; anything else is refused."""

        async def answer(request: Request) -> Response:
            fields = await _fields(request)
            return await run_in_threadpool(self._checked, act, request, fields)

        return answer

    def _checked(self, act: Act, request: Request, fields: Fields) -> Response:
        self._check_origin(request)
        session = self.session(request)
        if session is None:
            raise _refused(
                "nobody is logged in", "you logged out, or were away too long", "log in again"
            )
        if not session.wrote(fields.get("csrf", "")):
            raise _refused(
                "a form that this session did not make",
                "another site may have sent it",
                "open the page again and send the form from there",
            )
        self._posts.take(session.id, self._clock.monotonic_s())
        return act(request, session, fields)

    def _check_origin(self, request: Request) -> None:
        own = (self._address, f"{request.url.scheme}://{request.headers['host']}")
        origin = request.headers.get("origin", self._address)
        site = request.headers.get("sec-fetch-site", "same-origin")
        if origin not in own or site not in ("same-origin", "none"):
            raise _refused(
                "a form of another site",
                "what changes something is sent from this page alone",
                "open the page itself and send the form from there",
            )

    async def _login(self, request: Request) -> Response:
        fields = await _fields(request)
        return await run_in_threadpool(self._let_in, request, fields.get("word", ""))

    def _let_in(self, request: Request, word: str) -> Response:
        self._check_origin(request)
        now_s, audit = self._clock.monotonic_s(), self._premises.audit
        who = self._premises.logins.spend(word)
        if who is None:
            self._guesses.take(_network(request), now_s)
            audit.ended(audit.begun(NOBODY, "login", {}), "bad-login")
            raise _refused(
                "a login link that lets nobody in",
                "a link works once and for ten minutes",
                "ask for a new one: orthofed coordinator login-link DIR",
                code="bad-login",
            )
        audit.ended(audit.begun(f"{who}, {BY}", "login", {}), "ok")
        answer = RedirectResponse("/operator", 303)
        answer.set_cookie(
            self.cookie,
            self._sessions.open(who, now_s),
            max_age=int(LIFE_S),
            path="/",
            secure=self._is_https,
            httponly=True,
            samesite="strict",
        )
        return answer

    def _logout(self, _request: Request, session: Session, _fields: Fields) -> Response:
        self._sessions.close(session)
        audit = self._premises.audit
        audit.ended(audit.begun(f"{session.who}, {BY}", "logout", {}), "ok")
        answer = RedirectResponse("/", 303)
        answer.delete_cookie(
            self.cookie, path="/", secure=self._is_https, httponly=True, samesite="strict"
        )
        return answer


async def _fields(request: Request) -> Fields:
    """Return the fields of a form; the size was checked (headers.py)."""
    try:
        async with asyncio.timeout(_BODY_S):  # T18
            body = await request.body()
        found = parse_qs(body.decode("utf-8"), keep_blank_values=True, max_num_fields=_MOST_FIELDS)
    except (TimeoutError, ValueError) as error:
        raise InputError(
            "a form that cannot be read",
            why="it came too slowly, or is no form of this page",
            fix="open the page again and send the form from there",
            code="malformed",
        ) from error
    return {key: values[-1] for key, values in found.items()}


def _network(request: Request) -> str:
    """Return whose guesses are counted together: a /24, a /48, or this machine's."""
    host = "" if request.client is None else request.client.host
    return network_of(f"ip:{host}:0") or "this machine"


def _refused(what: str, why: str, fix: str, *, code: str = "not-allowed") -> Refused:
    return Refused(what, why=why, fix=fix, code=code)
