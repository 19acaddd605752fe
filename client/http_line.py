"""Answers of one HTTP server, as bytes that arrive: TLS, proxies, redirects, and who is hung up on.

Laws: nothing is unpacked (T6); a redirect is followed within the host alone, five times; TLS is
verified against the system's roots or a pinned CA (T24); proxies are the environment's
(HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY), and a proxy sees no byte of what TLS carries; who is
silent for 20 seconds, or slower than the watch bears, is hung up on (T18, http_watch.py). Pieces
are as large as what has arrived: small ones cost more than hashing does. Source: security.md 5.
"""

import ssl
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final
from urllib.parse import quote, unquote, urljoin, urlsplit
from urllib.request import (
    getproxies_environment,
    proxy_bypass_environment,  # pyright: ignore[reportAttributeAccessIssue]  # no stub has it
)

import urllib3
from urllib3.exceptions import HTTPError, ProtocolError

from ..core.errors import OrthoFedError, Refused, Unreachable, VerificationFailed
from ..core.tree_address import TreeAddress
from .http_watch import Answer, Watch, WatchedConnection, WatchedTlsConnection, asked

STREAMS: Final = 8
_PIECE: Final = 1 << 20
_REDIRECTS: Final = 5
_SILENT_S: Final = 20.0
_AGAIN: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_MOVED: Final = frozenset({301, 302, 303, 307, 308})
_HEADERS: Final = {"accept-encoding": "identity", "user-agent": "orthofed"}


# urllib3 types these as protocols that its own classes do not fit either.
class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = WatchedConnection  # pyright: ignore[reportAssignmentType]  # as above


class _TlsPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = WatchedTlsConnection  # pyright: ignore[reportAssignmentType]  # as above


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer whose body is still to be read."""

    status: int
    headers: Mapping[str, str]
    body: urllib3.BaseHTTPResponse
    answer: Answer

    def pieces(self) -> Generator[bytes]:
        """Give the body as it comes."""
        while data := self.body.read1(_PIECE, decode_content=False):
            self.answer.come += len(data)
            yield data


class HttpLine:
    """Connections to one server, for several threads."""

    def __init__(self, address: TreeAddress, *, slowest: int) -> None:
        """Prepare the connections; nothing is sent yet. Units: ``slowest`` in bytes a second.

        Raises VerificationFailed: the address carries a CA that is none. Raises Unreachable: the
        environment names a proxy that is no address.
        """
        self.where = address.url
        self._watch = Watch(slowest)
        self._pool = self._pool_of(address)
        self._pool.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}

    def close(self) -> None:
        """Close the connections."""
        self._pool.connection_from_url(self.where).close()  # forgetting it would leave them open
        self._pool.clear()

    @contextmanager
    def get(self, name: str, headers: Mapping[str, str]) -> Generator[Reply]:
        """Ask for one file of the tree and give the answer, 200 or 206, its body to be read.

        Raises Unreachable: it may go better next time. Raises Refused: the server does not give
        it. Raises VerificationFailed: it comes encoded, or from a server that is not trusted.
        """
        url = f"{self.where}/{quote(name)}"
        for _ in range(_REDIRECTS + 1):
            with self._asked(url, headers) as reply:
                if reply.status not in _MOVED:
                    self._check_status(reply, name, part="range" in headers)
                    yield reply
                    return
                url = self._next(url, reply.headers.get("location", ""))
        raise self._refused(name, f"more than {_REDIRECTS} redirects", "not-found")

    def unreachable(self, what: str) -> Unreachable:
        """Return the error for a server or a line that failed."""
        return Unreachable(
            f"{self.where}: {what}",
            why="the server or the line failed",
            fix="run the same command again; it goes on where it stopped",
            code="unreachable",
        )

    @contextmanager
    def _asked(self, url: str, headers: Mapping[str, str]) -> Generator[Reply]:
        with self._watch.on() as answer:
            try:
                with asked(answer):
                    body = self._pool.urlopen(
                        "GET",
                        url,
                        headers={**_HEADERS, **headers},
                        timeout=urllib3.Timeout(connect=_SILENT_S, read=_SILENT_S),
                        retries=False,
                        redirect=False,
                        preload_content=False,
                        decode_content=False,
                    )
                try:
                    yield Reply(body.status, body.headers, body, answer)
                finally:
                    body.close()  # hangs up, unless it was read to its end
            except HTTPError as error:
                raise self._fault(error, answer) from error
            if answer.cut:  # a body without a length looks as if it had ended
                raise self.unreachable(answer.cut)

    def _next(self, url: str, location: str) -> str:
        try:
            found = urljoin(url, location)
            here, there = urlsplit(url), urlsplit(found)
            same = (here.scheme, here.hostname, here.port) == (
                there.scheme,
                there.hostname,
                there.port,
            )
        except ValueError as error:
            raise self._refused(
                urlsplit(url).path, "redirects to no address", "redirected"
            ) from error
        if not location or not same:  # T16: the address that a person gave, and no other
            raise self._refused(urlsplit(url).path, f"redirects to {location[:80]!r}", "redirected")
        return found

    def _check_status(self, reply: Reply, name: str, *, part: bool) -> None:
        code = reply.status
        if code in _AGAIN:
            raise self.unreachable(f"HTTP {code}")
        if code != HTTPStatus.OK and not (part and code == HTTPStatus.PARTIAL_CONTENT):
            raise self._refused(name, f"HTTP {code}", "not-found")
        coding = reply.headers.get("content-encoding", "identity")
        if coding.lower() != "identity":  # T6: nothing is ever unpacked
            raise VerificationFailed(
                f"{name} from {self.where} is encoded as {coding[:20]!r}",
                why="files are taken as they are, and nothing is unpacked",
                fix="tell the operator to switch compression off for this folder",
                code="encoded",
            )

    def _fault(self, error: HTTPError, answer: Answer) -> OrthoFedError:
        if answer.cut:
            return self.unreachable(answer.cut)
        text = str(error)
        if "CERTIFICATE_VERIFY_FAILED" in text:
            return VerificationFailed(
                f"the certificate of {self.where} is not trusted",
                why=text[:200],
                fix="check the address; behind #LOG?ca= an address carries a CA of its own",
                code="tls-untrusted",
            )
        if isinstance(error, ProtocolError):
            return self.unreachable("the answer broke off or is no HTTP")
        return self.unreachable(type(error).__name__)

    def _refused(self, name: str, what: str, code: str) -> Refused:
        return Refused(
            f"{name[:200]} from {self.where}: {what}",
            why="the server has no such file, or does not give it to everybody",
            fix="check the address, or tell the operator to publish again",
            code=code,
        )

    def _pool_of(self, address: TreeAddress) -> urllib3.PoolManager:
        parts, proxies = urlsplit(address.url), getproxies_environment()
        proxy = proxies.get(parts.scheme) or proxies.get("all")
        context = _context(address.ca)
        host = f"{parts.hostname}:{parts.port}" if parts.port else parts.hostname or ""
        if not proxy or proxy_bypass_environment(host, proxies):
            return urllib3.PoolManager(maxsize=STREAMS, ssl_context=context)
        try:
            at = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
            login = f"{unquote(at.username)}:{unquote(at.password or '')}" if at.username else None
            return urllib3.ProxyManager(
                at._replace(netloc=at.netloc.rpartition("@")[2]).geturl(),
                maxsize=STREAMS,
                ssl_context=context,
                proxy_headers=urllib3.make_headers(proxy_basic_auth=login) if login else None,
            )
        except (HTTPError, ValueError) as error:
            raise self.unreachable("the proxy of the environment is no http:// address") from error


def _context(ca: bytes) -> ssl.SSLContext:
    """Return what verifies the server: the pinned CA alone, else the system's roots (T24)."""
    if not ca:
        return ssl.create_default_context()
    try:
        return ssl.create_default_context(cadata=ca)
    except ssl.SSLError as error:
        raise VerificationFailed(
            "the CA of the address is no certificate",
            why="nothing can be compared with it",
            fix="copy the whole address again",
            code="bad-link",
        ) from error
