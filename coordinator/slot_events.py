"""What can happen to slots, and what has to be done about it: plain values.

An event is a fact that somebody wants to be true; leases.py decides and answers with actions, which
whoever asked carries out in the same transaction (board.py, intake.py, removal.py, desk.py). Times
are monotonic seconds. Source: the table of reliability.md 3.
"""

from dataclasses import dataclass
from typing import Literal

Code = Literal["lease-lost", "no-free-slot", "quota-used", "not-filled", "plan-differs", "no-seat"]


@dataclass(frozen=True, slots=True)
class Ask:
    """A member wants a slot for a client key."""

    now_s: float
    client: str
    member: str
    operator: bool = False


@dataclass(frozen=True, slots=True)
class Revise:
    """A member wants a further lease of its own slot, which holds its contribution of ``fence``."""

    now_s: float
    client: str
    member: str
    slot: int
    fence: int


@dataclass(frozen=True, slots=True)
class Join:
    """A member wants a seat beside slot ``home``, to teach what that slot holds."""

    now_s: float
    client: str
    member: str
    home: int


@dataclass(frozen=True, slots=True)
class Renew:
    """The holder is alive; ``progress`` is any counter that grows with work.

    ``total``: what it comes to in the holder's words, 0 for not said; only for a person to see.
    """

    now_s: float
    client: str
    slot: int
    fence: int
    progress: int
    total: int = 0


@dataclass(frozen=True, slots=True)
class Arrive:
    """A chunk of the holder's upload arrived; ``advanced`` when it was a new one."""

    now_s: float
    client: str
    slot: int
    fence: int
    advanced: bool


@dataclass(frozen=True, slots=True)
class GiveBack:
    """The holder does not want the slot any more."""

    client: str
    slot: int
    fence: int


@dataclass(frozen=True, slots=True)
class Commit:
    """The holder's contribution is whole and checked."""

    client: str
    slot: int
    fence: int


@dataclass(frozen=True, slots=True)
class Keep:
    """Of the slot's contributions that of ``fence``, which is ``client``'s, is the live one now."""

    client: str
    slot: int
    fence: int


@dataclass(frozen=True, slots=True)
class Withdraw:
    """The contributor takes its contribution back."""

    client: str
    slot: int
    fence: int


@dataclass(frozen=True, slots=True)
class Reject:
    """The operator takes a contribution out."""

    slot: int
    fence: int


@dataclass(frozen=True, slots=True)
class Revoke:
    """The operator puts a member out: what it leases now, it leases no more."""

    member: str


@dataclass(frozen=True, slots=True)
class Rekey:
    """A member goes on under another key; what it holds, it holds."""

    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Draw:
    """A plan of the next release is made; it holds the contributions of these slots."""

    slots: frozenset[int]


@dataclass(frozen=True, slots=True)
class Publish:
    """The open plan has become the newest release."""


@dataclass(frozen=True, slots=True)
class Discard:
    """The open plan is given up: something that it holds was taken out meanwhile."""


@dataclass(frozen=True, slots=True)
class Restart:
    """The coordinator starts; deadlines begin anew."""

    now_s: float


Event = (
    Ask
    | Revise
    | Join
    | Renew
    | Arrive
    | GiveBack
    | Commit
    | Keep
    | Withdraw
    | Reject
    | Revoke
    | Rekey
    | Draw
    | Publish
    | Discard
    | Restart
)


@dataclass(frozen=True, slots=True)
class Grant:
    """The slot is this client's at this fence."""

    slot: int
    fence: int


@dataclass(frozen=True, slots=True)
class Hold:
    """The lease stands; ``ttl_s`` seconds from now it may be offered to somebody else."""

    slot: int
    ttl_s: int
    held_s: int


@dataclass(frozen=True, slots=True)
class Free:
    """The slot is free."""

    slot: int


@dataclass(frozen=True, slots=True)
class Back:
    """The corrective lease is over; the slot holds the contribution that it held before."""

    slot: int


@dataclass(frozen=True, slots=True)
class Fill:
    """The slot holds a contribution: its first one, or another one than before."""

    slot: int


@dataclass(frozen=True, slots=True)
class Empty:
    """The slot's contribution is out; a release still holds it, so the slot is not free yet."""

    slot: int


@dataclass(frozen=True, slots=True)
class Refuse:
    """The event is not allowed; nothing changed. ``code`` and ``what`` go to the asker."""

    code: Code
    what: str


Action = Grant | Hold | Free | Back | Fill | Empty | Refuse
