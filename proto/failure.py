"""Errors as gRPC status and back: one table, read in both directions.

A refusal travels as a status name, its text in three parts (what, why, fix) and the trailer
``orthofed-code``. The coordinator asks ``status_of``, the client ``error_from``; a code of the
table says what the client raises. UNKNOWN and INTERNAL are never produced: what nobody
foresaw is UNAVAILABLE with the code ``coordinator-fault``, and a bug (security.md 5).
Text that came over the wire is cut and stripped of control characters before a terminal sees it.
Status names are strings, so nothing here needs grpc.
"""

from typing import Final

from ..core.errors import (
    ContributionRejected,
    InputError,
    LeaseLost,
    OrthoFedError,
    Refused,
    SpecError,
    Unreachable,
    VerificationFailed,
)

_TABLE: Final[dict[str, tuple[str, type[OrthoFedError]]]] = {
    # what the coordinator says            code: (status, class)
    "malformed": ("INVALID_ARGUMENT", InputError),
    "too-large": ("INVALID_ARGUMENT", InputError),
    "not-canonical": ("INVALID_ARGUMENT", Refused),
    "bad-field": ("INVALID_ARGUMENT", Refused),
    "bad-key": ("INVALID_ARGUMENT", Refused),
    "bad-signature": ("UNAUTHENTICATED", Refused),
    "bad-header": ("UNAUTHENTICATED", Refused),
    "bad-time": ("UNAUTHENTICATED", Refused),
    "wrong-audience": ("UNAUTHENTICATED", Refused),
    "wrong-method": ("UNAUTHENTICATED", Refused),
    "wrong-body": ("UNAUTHENTICATED", Refused),
    "replayed": ("UNAUTHENTICATED", Refused),
    "not-your-role": ("PERMISSION_DENIED", Refused),
    "bad-invite": ("PERMISSION_DENIED", Refused),
    "revoked": ("PERMISSION_DENIED", Refused),
    "rotated": ("PERMISSION_DENIED", Refused),
    "key-used": ("INVALID_ARGUMENT", InputError),
    "bad-node-key": ("INVALID_ARGUMENT", InputError),
    "not-found": ("NOT_FOUND", Refused),
    "unknown-upload": ("NOT_FOUND", Refused),
    "no-such-release": ("NOT_FOUND", Refused),
    "no-such-contribution": ("NOT_FOUND", Refused),
    "withdrawn": ("NOT_FOUND", Refused),
    "lease-lost": ("FAILED_PRECONDITION", LeaseLost),
    "name-taken": ("INVALID_ARGUMENT", Refused),
    "not-correctable": ("INVALID_ARGUMENT", Refused),
    "no-free-slot": ("RESOURCE_EXHAUSTED", Refused),
    "quota-used": ("RESOURCE_EXHAUSTED", Refused),
    "rate-limited": ("RESOURCE_EXHAUSTED", Refused),
    "busy": ("RESOURCE_EXHAUSTED", Refused),
    "no-room": ("RESOURCE_EXHAUSTED", Refused),
    "chunk-damaged": ("DATA_LOSS", Refused),
    "draining": ("UNAVAILABLE", Unreachable),
    "coordinator-fault": ("UNAVAILABLE", Unreachable),
    "too-slow": ("DEADLINE_EXCEEDED", Unreachable),
    # what the client's own library says, without the coordinator's trailer
    "unreachable": ("UNAVAILABLE", Unreachable),
    "timed-out": ("DEADLINE_EXCEEDED", Unreachable),
    "cancelled": ("CANCELLED", Unreachable),
    "too-much": ("RESOURCE_EXHAUSTED", Refused),
    "not-orthofed": ("UNIMPLEMENTED", Refused),
}

_BY_CLASS: Final[tuple[tuple[type[OrthoFedError], str], ...]] = (
    (LeaseLost, "FAILED_PRECONDITION"),
    (ContributionRejected, "INVALID_ARGUMENT"),
    (SpecError, "INVALID_ARGUMENT"),
    (InputError, "INVALID_ARGUMENT"),
    (VerificationFailed, "UNAUTHENTICATED"),
    (Refused, "PERMISSION_DENIED"),
    (Unreachable, "UNAVAILABLE"),
)
"""For codes that the table leaves out: the status of the first class that fits."""

_BY_STATUS: Final[dict[str, type[OrthoFedError]]] = {
    "INVALID_ARGUMENT": ContributionRejected,
    "FAILED_PRECONDITION": LeaseLost,
    "UNAVAILABLE": Unreachable,
    "DEADLINE_EXCEEDED": Unreachable,
    "CANCELLED": Unreachable,
    "UNKNOWN": Unreachable,
    "INTERNAL": Unreachable,
}
"""For codes that this version does not know: the class by status, else Refused."""

_NO_CODE: Final[dict[str, str]] = {
    "UNAVAILABLE": "unreachable",
    "DEADLINE_EXCEEDED": "timed-out",
    "CANCELLED": "cancelled",
    "RESOURCE_EXHAUSTED": "too-much",
    "UNIMPLEMENTED": "not-orthofed",
}

_RETRIED_STATUS: Final = ("UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "DATA_LOSS")
_BROKEN_STATUS: Final = ("UNKNOWN", "INTERNAL", "CANCELLED")
"""What gRPC says itself, of bytes damaged on their way and of a call under which the coordinator
stopped; no coordinator answers so."""
_FINAL_CODES: Final = frozenset({"no-free-slot", "quota-used", "too-much"})
"""Out of something that waiting a minute does not bring back: a person decides."""

_MAX_TEXT: Final = 2_000


def status_of(error: OrthoFedError) -> tuple[str, str, str]:
    """Return status name, detail text and code, as the coordinator sends them.

    >>> from orthofed.core.errors import LeaseLost
    >>> status_of(LeaseLost("slot 3", why="w", fix="f", code="lease-lost"))[0]
    'FAILED_PRECONDITION'
    """
    if error.code in _TABLE:
        status = _TABLE[error.code][0]
    else:
        fitting = (status for kind, status in _BY_CLASS if isinstance(error, kind))
        status = next(fitting, "UNAVAILABLE")
    return status, _clean(str(error)), error.code


def error_from(status: str, detail: str, code: str) -> OrthoFedError:
    """Return the error that the other side, or the transport, meant by a gRPC status.

    ``code`` is the trailer's value, or empty when no trailer came; then the transport spoke.
    """
    if not code:
        return _from_transport(status, _clean(detail))
    code = _clean_code(code)
    kind = _TABLE[code][1] if code in _TABLE else _BY_STATUS.get(status, Refused)
    what, why, fix = _parts(_clean(detail))
    return kind(what, why=why, fix=fix, code=code)


def may_retry(status: str, code: str) -> bool:
    """Return whether the same call can succeed later without anybody's decision.

    Source: reliability.md 4; a resend is safe for every call of the contract.
    """
    return status in (*_RETRIED_STATUS, *_BROKEN_STATUS) and code not in _FINAL_CODES


def _from_transport(status: str, detail: str) -> OrthoFedError:
    code = _NO_CODE.get(status, "unreachable")
    kind = _TABLE[code][1]
    return kind(
        f"the coordinator did not answer as one: {status.lower().replace('_', ' ')}, {detail}",
        why="the connection, the address or the certificate is not right, or it is down",
        fix="check the address and the network, then run the same command again",
        code=code,
    )


def _parts(detail: str) -> tuple[str, str, str]:
    what, _, rest = detail.partition("\nwhy: ")
    why, _, fix = rest.partition("\nfix: ")
    return (
        what or "the coordinator refused",
        why or "it gave no reason",
        fix or "ask the operator of the federation",
    )


def _clean(text: str) -> str:
    """Cut the text, and drop what a terminal would obey."""
    return "".join(c for c in text[:_MAX_TEXT] if c == "\n" or c.isprintable())


def _clean_code(code: str) -> str:
    kept = "".join(c for c in code[:64] if c.isascii() and (c.isalnum() or c == "-"))
    return kept or "refused"
