"""Carries one call to the coordinator: signs it, tries again, and turns failures into our errors.

Law (reliability.md 4): one retry layer, ours. What may pass by itself (UNAVAILABLE, a deadline, a
damaged chunk, a limit) is tried again with full jitter on 0.1 s x 2^k up to 30 s, or after the
coordinator's own word, until ``patience_s`` is over; what the other side decided stops at once.
Every call is safe to repeat, and each try is signed anew with a fresh nonce (T3). A clock that is
off is corrected once by the coordinator's time, in ``t`` alone (security.md 4.4). TLS is always
verified, against the CA that the invite pinned or the system's roots; there is no switch (T24).
What speaks no TLS is tried again for a second: one byte that a bad line changed looks alike.
Nothing leaves that is not on the list of allowed.py; with an outbox it is written down first.
"""

import base64
import os
import secrets
import textwrap
import time
from collections.abc import Callable
from typing import Any, Final, Protocol, Self, TypeVar, cast

os.environ.setdefault("GRPC_VERBOSITY", "ERROR")  # or its C core writes notes to our stderr

import grpc
import tenacity

from ..core.errors import InputError, OrthoFedError, Unreachable, VerificationFailed
from ..core.keys import SigningKey
from ..core.request import sign_request
from ..proto import failure, methods
from ..proto.methods import Method
from .allowed import allow
from .client_certificate import ClientCertificate
from .outbox import Outbox
from .tls_faults import hung_up_hint, tls_fault

_JITTER: Final = tenacity.wait_random_exponential(multiplier=0.1, max=30)
_SURE_S: Final = 1.0  # ten tries to connect anew
_OPTIONS: Final = (
    ("grpc.enable_retries", 0),
    ("grpc.max_receive_message_length", methods.REPLY_BYTES),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # A line that went dead without a word: known in half a minute, inside the patience of a call.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    (
        "grpc.http2.ping_timeout_ms",
        20_000,
    ),  # else a ping of gRPC's own in flight keeps ours waiting
)


class Request(Protocol):
    """What a request of proto/wire.py can do."""

    def to_bytes(self) -> bytes:
        """Return the message as it travels."""
        ...


class Reply(Protocol):
    """What a reply of proto/wire.py can do."""

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Return the checked value."""
        ...


R = TypeVar("R", bound=Reply)


class _Again(Exception):  # not an error of ours: the retry loop's own signal
    """This try failed in a way that may pass."""

    def __init__(self, error: OrthoFedError, after_s: float) -> None:
        super().__init__(str(error))
        self.error = error
        self.after_s = after_s


class Channel:
    """One connection to one coordinator. Safe for several threads; close it or use ``with``."""

    def __init__(
        self,
        host_port: str,
        *,
        ca: bytes,
        log: str,
        outbox: Outbox | None = None,
        certificate: ClientCertificate | None = None,
        patience_s: float = 60,
    ) -> None:
        """Prepare the connection; nothing is sent yet.

        ``ca`` is a DER certificate, empty for the system's roots; ``certificate`` is shown to a
        coordinator that asks for one. Without an ``outbox``, as for
        a consumer who has no home, only unsigned calls can be made. Units: ``patience_s`` is how
        long a call is tried again.
        """
        self.host_port = host_port
        self._log = log
        self._outbox = outbox
        self._patience_s = patience_s
        self._clock_offset_s = 0
        self._closed = False
        self._no_tls_since: float | None = None
        credentials = grpc.ssl_channel_credentials(
            _pem(ca) if ca else None,
            certificate.key if certificate else None,
            certificate.chain if certificate else None,
        )
        self._channel = grpc.secure_channel(host_port, credentials, options=_OPTIONS)
        self._calls: dict[str, Callable[..., Any]] = {}

    def __enter__(self) -> Self:
        """Use the channel until the block ends."""
        return self

    def __exit__(self, *_exc: object) -> None:
        """Close the connection."""
        self.close()

    def close(self) -> None:
        """Close the connection; calls in flight end as cancelled."""
        self._closed = True
        self._channel.close()

    def call(
        self, method: Method, request: Request, reply: type[R], *, key: SigningKey | None = None
    ) -> R:
        """Send ``request`` and return the checked reply.

        Raises Unreachable: no answer within the patience. Otherwise what the other side meant.
        """
        body = request.to_bytes()
        if self._outbox is not None:
            self._outbox.record(method.path, request, body)
        elif key is None:
            allow(method.path, body)
        else:
            raise AssertionError("a signed call needs an outbox")
        data = self._persist(lambda: self._once(method, body, key))
        try:
            return reply.from_bytes(data)
        except InputError as error:
            raise VerificationFailed(
                f"{self.host_port} answered {method.path} with {error.what}",
                why="it is no coordinator, or one of another version",
                fix="check the address, or upgrade orthofed on the older side",
                code="bad-reply",
            ) from error

    def _persist(self, once: Callable[[], bytes]) -> bytes:
        patience = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(_Again),
            wait=lambda state: max(_JITTER(state), _after_s(state)),
            stop=tenacity.stop_after_delay(self._patience_s),
            reraise=True,
        )
        try:
            return patience(once)
        except _Again as again:
            error = again.error
            if not isinstance(error, Unreachable):
                raise error from None
            raise Unreachable(
                f"{self.host_port} gave no answer for {self._patience_s:.0f} s: {error.what}",
                why=error.why,
                fix="run the same command again when it is back; it goes on where it stopped"
                + hung_up_hint(error.what),
                code="unreachable",
            ) from None

    def _once(self, method: Method, body: bytes, key: SigningKey | None) -> bytes:
        """Make one try, and one more when only the clock was wrong."""
        for last in (False, True):
            try:
                call, auth = self._stub(method), self._auth(method, body, key)
                answer = cast("bytes", call(body, timeout=method.deadline_s, metadata=auth))
            except grpc.RpcError as error:
                trailers = _trailers(error)
                now = trailers.get(methods.NOW_KEY, "")
                if not last and trailers.get(methods.CODE_KEY) == "bad-time" and now.isdecimal():
                    self._clock_offset_s = int(now[:12]) - int(time.time())
                    continue
                raise self._meaning(error, trailers) from error
            else:
                self._no_tls_since = None
                return answer
        raise AssertionError  # the loop returned or raised

    def _auth(
        self, method: Method, body: bytes, key: SigningKey | None
    ) -> tuple[tuple[str, bytes], ...]:
        if key is None:
            return ()
        header, signature = sign_request(
            key,
            log=self._log,
            method=method.path,
            body=body,
            nonce=secrets.token_bytes(16),
            now_s=int(time.time()) + self._clock_offset_s,
        )
        return ((methods.AUTH_KEY, header), (methods.SIGNATURE_KEY, signature))

    def _stub(self, method: Method) -> Callable[..., Any]:
        if method.path not in self._calls:
            # Bytes in, bytes out: what was signed is what travels (security.md 4.4).
            self._calls[method.path] = self._channel.unary_unary(method.path)
        return self._calls[method.path]

    def _meaning(self, error: grpc.RpcError, trailers: dict[str, str]) -> Exception:
        call = cast("grpc.Call", error)
        status, detail = call.code().name, call.details() or ""
        code = trailers.get(methods.CODE_KEY, "")
        if not code and (fault := tls_fault(self.host_port, detail)) is not None:
            return _Again(fault, 0.0) if self._may_be_the_line(fault) else fault
        meant = failure.error_from(status, detail, code)
        if failure.may_retry(status, code) and not self._closed:
            after = trailers.get(methods.RETRY_KEY, "")
            return _Again(meant, float(after[:6]) if after.isdecimal() else 0.0)
        return meant

    def _may_be_the_line(self, fault: OrthoFedError) -> bool:
        """Return whether a byte that a bad line changed looks alike: what is no TLS stays none."""
        if fault.code != "not-tls" or self._closed:
            return False
        if self._no_tls_since is None:
            self._no_tls_since = time.monotonic()
        return time.monotonic() - self._no_tls_since < _SURE_S


def _after_s(state: tenacity.RetryCallState) -> float:
    failed = state.outcome.exception() if state.outcome else None
    # A coordinator's wish is heard up to half a minute: a hostile one must not park us for ever.
    return min(failed.after_s, 30.0) if isinstance(failed, _Again) else 0.0


def _trailers(error: grpc.RpcError) -> dict[str, str]:
    metadata = cast("grpc.Call", error).trailing_metadata() or ()
    return {key: value for key, value in metadata if isinstance(value, str)}


def _pem(der: bytes) -> bytes:
    lines = "\n".join(textwrap.wrap(base64.b64encode(der).decode(), 64))
    return f"-----BEGIN CERTIFICATE-----\n{lines}\n-----END CERTIFICATE-----\n".encode()
