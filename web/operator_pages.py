"""The operator's pages over HTTP: what is looked at, and what is done.

Laws: the door lets nobody look or act without a session (door.py); what changes something goes
through the audited desk under the name of who asked for the login link, or through a child process
(jobs.py). It decides nothing else.
"""

from typing import TYPE_CHECKING, Final

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from ..coordinator.control import Desk
from ..coordinator.premises import Premises
from ..core.errors import InputError
from . import evidence_views, operator_views, traffic_views
from .answers import Answers
from .door import BY, NOBODY, Act, Door, Fields
from .history import History
from .jobs import Jobs
from .live import tag
from .operator_reader import OperatorReader
from .sessions import Session

if TYPE_CHECKING:
    from collections.abc import Callable

LIVE: Final = "/operator/live"
TRAFFIC_LIVE: Final = "/operator/traffic/live"


class OperatorPages:
    """The routes behind the login."""

    def __init__(
        self,
        premises: Premises,
        answers: Answers,
        door: Door,
        *,
        jobs: Jobs,
        history: History,
    ) -> None:
        """Act on the premises, for who is inside the door."""
        self._premises = premises
        self._answers = answers
        self._door = door
        self._jobs = jobs
        self._history = history
        self._clock = premises.house.clock
        self.reader = OperatorReader(premises.house, premises.desk_for(NOBODY), lambda: jobs.job)

    def routes(self) -> list[Route]:
        """Return the routes."""
        looks: list[tuple[str, Callable[[Request], Response]]] = [
            ("/operator", self._overview),
            ("/operator/contributions", self._contributions),
            ("/operator/contributions/{leaf:int}", self._evidence),
            ("/operator/contributions/{leaf:int}/pictures/{name}.png", self._picture),
            ("/operator/evaluation", self._evaluation),
            ("/operator/traffic", self._traffic),
            ("/operator/releases", self._publishing),
            ("/operator/invites", self._invites),
            ("/operator/backups", self._backups),
        ]
        acts: list[tuple[str, Act]] = [
            ("/operator/contributions/{leaf:int}/approve", self._approve),
            ("/operator/contributions/{leaf:int}/reject", self._reject),
            ("/operator/releases", self._publish),
            ("/operator/invites", self._invite),
            ("/operator/backups", self._back_up),
        ]
        return [
            *(
                Route(path, self._door.seen(look, self._answers), methods=["GET"])
                for path, look in looks
            ),
            *(Route(path, self._door.done(act), methods=["POST"]) for path, act in acts),
        ]

    def _live(self) -> str:
        """Return the stream of a page that is about to look: what comes later is news to it."""
        return f"{LIVE}?seen={tag(self.reader.mark())}"

    def _overview(self, request: Request) -> Response:
        live = self._live()
        view = operator_views.overview(self.reader.house())
        return self._answers.page(request, "overview.html", view, live=live)

    def _contributions(self, request: Request) -> Response:
        live = self._live()
        view = operator_views.contributions(self.reader.house())
        return self._answers.page(request, "contributions.html", view, live=live)

    def _evidence(self, request: Request) -> Response:
        found = self.reader.contribution(request.path_params["leaf"])
        names = {each.leaf: each.concept for each in self.reader.contributions()}
        view = evidence_views.evidence(found, self.reader.policy(), names)
        return self._answers.page(request, "evidence.html", view)

    def _picture(self, request: Request) -> Response:
        """Answer with one picture; it is kept by nobody, as every answer behind the login."""
        data = self.reader.picture(request.path_params["leaf"], request.path_params["name"])
        return Response(data, media_type="image/png")

    def _evaluation(self, request: Request) -> Response:
        live = self._live()
        view = operator_views.matrix(self.reader.scores(), self.reader.policy().kept_percent)
        return self._answers.page(request, "evaluation.html", view, live=live)

    def _traffic(self, request: Request) -> Response:
        live = f"{TRAFFIC_LIVE}?seen={tag(self._history.mark())}"
        view = traffic_views.traffic(self._history.read())
        return self._answers.page(request, "traffic.html", view, live=live)

    def _publishing(self, request: Request) -> Response:
        live = self._live()
        view = operator_views.publish(self.reader.house())
        return self._answers.page(request, "publish.html", view, live=live)

    def _invites(self, request: Request, made: str = "") -> Response:
        rows = operator_views.invites(self.reader.invites(), self._clock.wall_s())
        page = {"rows": rows, "made": made}
        return self._answers.page(request, "invites.html", page)

    def _backups(self, request: Request) -> Response:
        live = self._live()
        view = operator_views.backups(self.reader.house(), self._jobs.place, self._jobs.backups())
        return self._answers.page(request, "backups.html", view, live=live)

    def _approve(self, request: Request, session: Session, _fields: Fields) -> Response:
        self._desk(session).ask("approve", {"leaf": request.path_params["leaf"]})
        return RedirectResponse("/operator/contributions", 303)

    def _reject(self, request: Request, session: Session, fields: Fields) -> Response:
        why = fields.get("why", "")
        self._desk(session).ask("reject", {"leaf": request.path_params["leaf"], "why": why})
        return RedirectResponse("/operator/contributions", 303)

    def _publish(self, _request: Request, session: Session, fields: Fields) -> Response:
        self._jobs.release(_name(session), samples=fields.get("samples") == "yes")
        return RedirectResponse("/operator/releases", 303)

    def _invite(self, request: Request, session: Session, fields: Fields) -> Response:
        args = {
            "uses": _number(fields, "uses"),
            "days": _number(fields, "days"),
            "operator": fields.get("operator") == "yes",
        }
        made = self._desk(session).ask("invite", args)
        return self._invites(request, str(made["invite"]))  # shown once: it is kept nowhere

    def _back_up(self, _request: Request, session: Session, _fields: Fields) -> Response:
        self._jobs.backup(_name(session))
        return RedirectResponse("/operator/backups", 303)

    def _desk(self, session: Session) -> Desk:
        return self._premises.desk_for(_name(session))


def _name(session: Session) -> str:
    return f"{session.who}, {BY}"


def _number(fields: Fields, name: str) -> int:
    text = fields.get(name, "")
    if not (text.isascii() and text.isdecimal() and len(text) <= 6):  # noqa: PLR2004  # digits
        raise InputError(
            f"{name} that are no number",
            why="an invite has a number of uses and of days",
            fix="give whole numbers",
            code="bad-invite-terms",
        )
    return int(text)
