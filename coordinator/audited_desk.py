"""The desk with a witness: what changes something is in the audit log before it is done.

Law: what is not known to change nothing is written, so an operation that is added later is too. A
log that cannot be written ends the act before it begins.
"""

from typing import Any

from ..core.errors import OrthoFedError
from .audit_log import AuditLog
from .control import Desk

_LOOKS = frozenset(
    {
        "contributions",
        "invites",
        "keyring",
        "link",
        "members",
        "orders",
        "retention",
        "snapshot",
        "status",
    }
    | {"evidence", "measured", "to_measure"}  # the worker's own, each contribution once
)


class AuditedDesk:
    """Asks the desk on behalf of ``who``."""

    def __init__(self, desk: Desk, log: AuditLog, who: str) -> None:
        """Take the desk and the log of one folder."""
        self._desk, self._log, self._who = desk, log, who

    def ask(self, op: str, args: dict[str, Any]) -> dict[str, Any]:
        """Do one thing and write down who asked; raises what the desk raises."""
        if op in _LOOKS:
            return self._desk.ask(op, args)
        if op == "login-link":
            args = {"who": self._who}  # whose session it opens is for the system to say
        number = self._log.begun(self._who, op, args)
        said = "failed"
        try:
            answer = self._desk.ask(op, args)
            said = "ok"
        except OrthoFedError as error:
            said = error.code
            raise
        finally:
            self._log.ended(number, said)
        return answer
