"""A federation's public files from any HTTP server that has the static tree, by ranges.

Laws: nothing but bytes as they lie on the server is taken: no encoding, no part that was not asked
for, no more than the signed length (T16); a redirect is followed within the host alone, five times;
TLS is verified against the system's roots or a pinned CA (T24), proxies are the environment's; who
is silent for 20 seconds, or slower than 1 KiB a second for half a minute (a mirror: 64 KiB), is
hung up on. What may pass by itself (no connection, 429, 5xx) is tried again with full jitter until
``patience_s`` is over without a byte. A server without ranges gives whole files: what was not asked
for of them is read and dropped, so that costs the way to the stretch. Source: security.md 5.
"""

import ssl
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Final, Self
from urllib.parse import quote

import httpx
import tenacity

from ..core.errors import OrthoFedError, Refused, Unreachable, VerificationFailed
from ..core.tree_address import TreeAddress
from .origin import Wanted, release_file

_MANIFEST: Final = "manifest.json"
_MANIFEST_BYTES: Final = 1 << 20
_REDIRECTS: Final = 5
_SILENT_S: Final = 20.0
_WATCHED_S: Final = 30.0
_SLOWEST: Final = 1 << 10
_SLOWEST_MIRROR: Final = 64 << 10
_STREAMS: Final = 8
_AGAIN: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_WAIT: Final = tenacity.wait_random_exponential(multiplier=0.1, max=30)


class HttpOrigin:
    """One server; safe for several threads. ``mirror``: others have the same, so do not wait."""

    def __init__(self, address: TreeAddress, *, patience_s: float, mirror: bool = False) -> None:
        """Prepare the connections; nothing is sent yet. Units: ``patience_s`` in seconds."""
        self._url = address.url
        self.where = address.url
        self.streams = _STREAMS
        self._patience_s = 0.0 if mirror else patience_s
        self._slowest = _SLOWEST_MIRROR if mirror else _SLOWEST
        self._client = httpx.Client(
            verify=_context(address.ca),
            timeout=_SILENT_S,
            headers={"accept-encoding": "identity", "user-agent": "orthofed"},
            limits=httpx.Limits(max_connections=_STREAMS, max_keepalive_connections=_STREAMS),
        )

    def __enter__(self) -> Self:
        """Use the connections until the block ends."""
        return self

    def __exit__(self, *_exc: object) -> None:
        """Close them."""
        self._client.close()

    def read(self, name: str, most: int) -> bytes:
        """Return a file that proves the ledger; see PublicSource."""

        def once() -> bytes:
            data = b""
            with self._get(name, {}) as reply:
                for piece in self._raw(reply):
                    data += piece
                    if len(data) > most:  # T16
                        raise VerificationFailed(
                            f"{name} of more than {most} bytes from {self.where}",
                            why="the length of every public file is bounded",
                            fix="run the same command again later, or tell the operator",
                            code="wrong-length",
                        )
                self._check_whole(reply, name, len(data))
            return data

        return self._persist(once)

    def manifest(self, n: int) -> bytes:
        """Return the signed manifest of release ``n``, unchecked."""
        return self.read(release_file(n, _MANIFEST), _MANIFEST_BYTES)

    def stretch(self, wanted: Wanted, offset: int, length: int) -> Generator[bytes]:
        """Give a stretch of one file; see Origin."""
        at, end, tried, since_s = offset, offset + length, 0, time.monotonic()
        while True:
            try:
                for data in self._stretch(wanted, at, end):
                    at, tried, since_s = at + len(data), 0, time.monotonic()
                    yield data
            except Unreachable:
                if time.monotonic() - since_s >= self._patience_s:
                    raise
                tried += 1
                time.sleep(_waited(tried))
            else:
                return

    def _stretch(self, wanted: Wanted, at: int, end: int) -> Generator[bytes]:
        total = wanted.entry.bytes
        whole = (at, end) == (0, total)
        headers = {} if whole else {"range": f"bytes={at}-{end - 1}"}
        with self._get(wanted.tree_name, headers) as reply:
            skip = self._check_stretch(wanted, reply, at, end)
            for data in self._raw(reply):
                piece, skip = data[skip:], max(0, skip - len(data))
                if at + len(piece) > end:
                    if reply.status_code == httpx.codes.PARTIAL_CONTENT or end == total:
                        raise wanted.wrong(f"more than the {total} signed bytes came")
                    piece = piece[: end - at]
                at += len(piece)
                if piece:
                    yield piece
                if at == end and (reply.status_code == httpx.codes.OK and end < total):
                    return  # the rest of a whole file, which nobody asked for
        if at < end:
            raise self._unreachable(f"the line was cut at byte {at} of {wanted.entry.name}")

    def _check_stretch(self, wanted: Wanted, reply: httpx.Response, at: int, end: int) -> int:
        """Refuse another stretch than was asked for; return how many bytes come before it."""
        total = wanted.entry.bytes
        said = reply.headers.get("content-length")
        if reply.status_code == httpx.codes.PARTIAL_CONTENT:
            place = reply.headers.get("content-range", "")
            if place != f"bytes {at}-{end - 1}/{total}":  # T16: never another part of the file
                raise wanted.wrong(f"bytes {at}-{end - 1}/{total} were asked for, {place!r} came")
            total = end - at
        if said is not None and said != str(total):
            raise wanted.wrong(f"{said[:20]} bytes were announced, {total} are signed")
        return at if reply.status_code == httpx.codes.OK else 0

    @contextmanager
    def _get(self, name: str, headers: dict[str, str]) -> Generator[httpx.Response]:
        """Ask for one file of the tree and give the answer, its body still to be read."""
        url = httpx.URL(f"{self._url}/{quote(name)}")
        try:
            for _ in range(_REDIRECTS):
                with self._client.stream("GET", url, headers=headers) as reply:
                    if reply.is_redirect:
                        url = self._next(url, reply)
                        continue
                    self._check_status(reply, name)
                    yield reply
                    return
        except httpx.TransportError as error:
            raise self._fault(error) from error
        raise self._refused(name, f"more than {_REDIRECTS} redirects", "not-found")

    def _next(self, url: httpx.URL, reply: httpx.Response) -> httpx.URL:
        try:
            found = url.join(reply.headers.get("location", ""))
        except httpx.InvalidURL as error:
            raise self._refused(url.path, "redirects to no address", "redirected") from error
        if (found.scheme, found.host, found.port) != (url.scheme, url.host, url.port):
            raise self._refused(url.path, f"redirects to {found.host[:80]}", "redirected")
        return found

    def _check_status(self, reply: httpx.Response, name: str) -> None:
        code = reply.status_code
        if code in _AGAIN:
            raise self._unreachable(f"HTTP {code}")
        if code not in (httpx.codes.OK, httpx.codes.PARTIAL_CONTENT):
            raise self._refused(name, f"HTTP {code}", "not-found")
        coding = reply.headers.get("content-encoding", "identity")
        if coding.lower() != "identity":  # T6: nothing is ever unpacked
            raise VerificationFailed(
                f"{name} from {self.where} is encoded as {coding[:20]!r}",
                why="files are taken as they are, and nothing is unpacked",
                fix="tell the operator to switch compression off for this folder",
                code="encoded",
            )

    def _raw(self, reply: httpx.Response) -> Generator[bytes]:
        """Give the body as it comes, and hang up on who drips."""
        since_s, come = time.monotonic(), 0
        for data in reply.iter_raw():  # as it comes: pieces of one size would wait for a dripper
            yield data
            come += len(data)
            took_s = time.monotonic() - since_s
            if took_s >= _WATCHED_S:  # T18
                if come < self._slowest * took_s:
                    raise self._unreachable(f"{come} bytes in {took_s:.0f} s")
                since_s, come = time.monotonic(), 0

    def _check_whole(self, reply: httpx.Response, name: str, size: int) -> None:
        said = reply.headers.get("content-length", str(size))
        if reply.status_code != httpx.codes.OK or said != str(size):
            raise self._unreachable(f"{size} of {said[:20]} bytes of {name}")

    def _persist(self, once: Callable[[], bytes]) -> bytes:
        patience = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(Unreachable),
            wait=_WAIT,
            stop=tenacity.stop_after_delay(self._patience_s),
            reraise=True,
        )
        return patience(once)

    def _fault(self, error: httpx.TransportError) -> OrthoFedError:
        if isinstance(error, httpx.RemoteProtocolError | httpx.LocalProtocolError):
            return self._unreachable("the answer broke off or is no HTTP")
        text = str(error)
        if "CERTIFICATE_VERIFY_FAILED" in text:
            return VerificationFailed(
                f"the certificate of {self.where} is not trusted",
                why=text[:200],
                fix="check the address; behind #LOG?ca= an address carries a CA of its own",
                code="tls-untrusted",
            )
        return self._unreachable(type(error).__name__)

    def _unreachable(self, what: str) -> Unreachable:
        return Unreachable(
            f"{self.where}: {what}",
            why="the server or the line failed",
            fix="run the same command again; it goes on where it stopped",
            code="unreachable",
        )

    def _refused(self, name: str, what: str, code: str) -> Refused:
        return Refused(
            f"{name[:200]} from {self.where}: {what}",
            why="the server has no such file, or does not give it to everybody",
            fix="check the address, or tell the operator to publish again",
            code=code,
        )


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


def _waited(tried: int) -> float:
    """Return how long to wait before the next try: full jitter on 0.1 s x 2^k up to 30 s."""
    state = tenacity.RetryCallState(tenacity.Retrying(), None, (), {})
    state.attempt_number = tried
    return _WAIT(state)
