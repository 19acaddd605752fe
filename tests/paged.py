"""A page over a coordinator of this process: real HTTP on loopback, no browser."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import httpx

from orthofed.coordinator.audit_log import AuditLog
from orthofed.coordinator.audited_desk import AuditedDesk
from orthofed.coordinator.desk import Desk
from orthofed.coordinator.logins import Logins
from orthofed.coordinator.premises import Premises
from orthofed.coordinator.service import Service
from orthofed.web.opening import opener

from .serving import FastFs, Running


@dataclass
class Paged:
    """The page's address, who may be let in, and what the operators did."""

    address: str
    port: int
    logins: Logins
    own: Running
    clients: ExitStack

    def get(self, path: str, **kwargs: Any) -> httpx.Response:
        return httpx.get(f"{self.address}{path}", timeout=30, **kwargs)

    def client(self) -> httpx.Client:
        """Return a client without a session."""
        return self.clients.enter_context(httpx.Client(base_url=self.address, timeout=30))

    def operator(self) -> "Operator":
        """Return a client that is logged in."""
        client = self.client()
        word = str(self.logins.link("anna")["url"]).partition("word=")[2]
        answer = client.post("/operator/login", data={"word": word})
        assert answer.status_code == 303, answer.text
        return Operator(client)


class Operator:
    """Reads and posts as the operator, with the CSRF word of its last page."""

    def __init__(self, client: httpx.Client) -> None:
        self.client = client

    def get(self, path: str) -> str:
        answer = self.client.get(path)
        assert answer.status_code == 200, answer.text
        return answer.text

    @property
    def csrf(self) -> str:
        return self.get("/operator").partition('name="csrf" value="')[2].partition('"')[0]

    def post(self, path: str, **fields: str) -> httpx.Response:
        body = urlencode({"csrf": self.csrf, **fields})
        kind = {"content-type": "application/x-www-form-urlencoded"}
        return self.client.post(path, content=body, headers=kind)


@contextmanager
def paged(own: Running, *, url: str = "") -> Iterator[Paged]:
    """Serve the page of a running coordinator until the block ends."""
    audit = AuditLog(own.folder.audit_log, fs=FastFs(), clock=own.clock)
    logins = Logins(own.clock)
    desk = Desk(own.house, logins)
    premises = Premises(
        own.house,
        own.server.meter,
        Service(own.house).answer,
        lambda who: AuditedDesk(desk, audit, who),
        audit,
        logins,
    )
    page = opener("127.0.0.1:0", url)(premises)
    logins.url = page.address
    with ExitStack() as clients:
        clients.callback(audit.close)
        clients.callback(page.close)
        yield Paged(page.address, page.port, logins, own, clients)
