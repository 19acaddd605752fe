"""What a page gets of the coordinator that serves it, and what it gives back.

Law: the coordinator knows no page but by these names; the package web makes one, and only
serve_command.py asks it to, when a page is wanted (docs/adr/0029).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from .audit_log import AuditLog
from .call import Answer
from .control import Desk
from .house import House
from .logins import Logins
from .meter import Meter


@dataclass(frozen=True, slots=True)
class Premises:
    """The running coordinator: ``answer`` makes unsigned calls, ``desk_for`` acts for a person."""

    house: House
    meter: Meter
    answer: Answer
    desk_for: Callable[[str], Desk]
    audit: AuditLog
    logins: Logins


class Page(Protocol):
    """A page that is being served."""

    @property
    def address(self) -> str:
        """Where it is: http:// or https://, without a path."""
        ...

    def close(self) -> None:
        """Stop answering."""
        ...


OpenPage = Callable[[Premises], Page]
"""Opens a page on the premises."""
