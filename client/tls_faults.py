"""What went wrong in a TLS handshake, read from gRPC's words, as errors with a next step (T24).

Law: a certificate that does not verify ends the call at once and with exit code 4; nothing was
sent, and there is no switch that goes on. gRPC's C core has no codes for these, so its texts are
read; tests/test_tls_matrix.py makes every one of them. A server that asks for a certificate and
gets none or a wrong one hangs up without a word: that looks like one that stops, is tried again,
and the error then names both.
"""

from typing import Final

from ..core.errors import OrthoFedError, Refused, VerificationFailed

_OTHER_CA: Final = (
    "somebody else answers there, or the coordinator's CA was made anew",
    "ask the operator for a new invite or link, by a way you trust",
)
_CLOCK: Final = (
    "its time is over, or has not come, by the clock of this machine",
    "check the date and time here; if they are right, tell the operator to restart the coordinator",
)
_HOST: Final = (
    "the certificate names other hosts than this address",
    "use the address of the invite or link, or ask the operator to add this one to `hostnames`",
)
_UNTRUSTED: Final[dict[str, tuple[str, tuple[str, str]]]] = {
    "certificate has expired": ("has expired", _CLOCK),
    "certificate is not yet valid": ("is not valid yet", _CLOCK),
    "Hostname Verification Check failed": ("is for another host", _HOST),
    "Peer name": ("is for another host", _HOST),
    "self signed certificate": ("is signed by itself alone", _OTHER_CA),
    "CERTIFICATE_VERIFY_FAILED": ("is not the one that was pinned", _OTHER_CA),
}
"""gRPC's words, the most particular first; what they mean, and why and fix."""
_NOT_TLS: Final = (
    "WRONG_VERSION_NUMBER",
    "HTTP_REQUEST",
    "UNSUPPORTED_PROTOCOL",
    "PROTOCOL_VERSION",
)
_WANTS_ONE: Final = ("CERTIFICATE_REQUIRED", "ALERT_UNKNOWN_CA", "ALERT_BAD_CERTIFICATE")


def tls_fault(host_port: str, detail: str) -> OrthoFedError | None:
    """Return the error of a handshake that failed for good, or None for any other failure."""
    for sign, (says, (why, fix)) in _UNTRUSTED.items():
        if sign in detail:
            what = f"the TLS certificate of {host_port} {says}"
            return VerificationFailed(what, why=why, fix=fix, code="tls-untrusted")
    if any(sign in detail for sign in _NOT_TLS):
        return VerificationFailed(
            f"{host_port} speaks no TLS 1.2 or 1.3",
            why="something else listens there, and nothing is ever sent in the clear",
            fix="check host and port of the invite or link",
            code="not-tls",
        )
    if any(sign in detail for sign in _WANTS_ONE):
        return Refused(
            f"{host_port} asks for a client certificate and took none of this home",
            why="its operator put this door in front",
            fix="ask for one and run orthofed client join --client-certificate FILE",
            code="client-certificate",
        )
    return None


def hung_up_hint(what: str) -> str:
    """Return what to add to the advice when the other side hung up without a word."""
    if "Socket closed" not in what:
        return ""
    return "; if its operator asks for client certificates, join again with --client-certificate"
