"""A federation in this process for attackers: no sockets, a clock moved by hand, calls recorded.

``besieged(folder)`` opens a founded folder. ``Besieged.state`` is the hash of everything that an
attack must not change: every row of the database and every slot with its deadline.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orthofed.coordinator.call import Call
from orthofed.coordinator.desk import Desk
from orthofed.coordinator.folder import DataFolder
from orthofed.coordinator.house import House
from orthofed.coordinator.releasing import publish_newest
from orthofed.coordinator.service import Service
from orthofed.core.errors import OrthoFedError
from orthofed.core.invite import Invite
from orthofed.proto import methods

from .direct import Direct
from .member import Member
from .serving import FastFs, TestClock

_UNTOUCHED = ("invite",)  # an invite's uses fall when somebody honest joins


@dataclass
class Recorder(Direct):
    """A member's connection that keeps each call as it went over the wire."""

    service: Service
    invite: Invite
    clock: TestClock
    calls: list[Call] = field(default_factory=list)
    clock_offset_s: int = 0
    last_trailers: dict[str, Any] = field(default_factory=dict)

    def now_s(self) -> int:
        return self.clock.wall_s() + self.clock_offset_s

    def send(self, method: methods.Method, body: bytes, metadata: Any = ()) -> bytes:
        said = dict(metadata)
        header, signature = (said.get(k, b"") for k in (methods.AUTH_KEY, methods.SIGNATURE_KEY))
        self.calls.append(Call(method, body, header, signature, peer="unix:"))
        return self.service.answer(self.calls[-1])


class Besieged:
    """The house, its service, and who comes."""

    def __init__(self, house: House, clock: TestClock) -> None:
        self.house = house
        self.clock = clock
        self.service = Service(house)
        self.desk = Desk(house)

    def pass_s(self, seconds: float) -> None:
        """Let time go by on both clocks."""
        self.clock.moved_s += seconds
        self.clock.wall_moved_s += int(seconds)

    def invite(self, uses: int = 1_000) -> Invite:
        return Invite.from_text(self.desk.invite(uses, 7, operator=False)["invite"])

    def stranger(self, invite: Invite | None = None) -> Member:
        """Return somebody with keys and a connection who has not joined."""
        return Member(Recorder(self.service, invite or self.invite(), self.clock))

    def member(self) -> Member:
        someone = self.stranger()
        someone.join()
        return someone

    def refusal(self, call: Call) -> OrthoFedError | None:
        """Return why a call was refused, None when it was answered."""
        try:
            self.service.answer(call)
        except OrthoFedError as error:
            return error
        return None

    def rows(self) -> str:
        """Return the hash of every row of the database."""

        def dump(db: Any) -> str:
            found = "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name"
            tables = [name for (name,) in db.execute(found) if name not in _UNTOUCHED]
            return repr([(name, db.execute(f"SELECT * FROM {name}").fetchall()) for name in tables])  # noqa: S608  # names of our own schema

        return _sha256(self.house.store.run(dump))

    def publish(self) -> None:
        """Publish what is accepted."""
        publish_newest(
            self.house.folder, self.desk, lambda_1024=None, resume=False, say=lambda _: None
        )

    def state(self) -> str:
        """Return the hash of every row and of every slot with its deadline."""
        return _sha256(self.rows() + repr(self.house.board.state))


@contextmanager
def besieged(folder: Path) -> Iterator[Besieged]:
    """Open the folder until the block ends."""
    place, clock = DataFolder.open(folder), TestClock()
    with place.locked(), House(place, fs=FastFs(), clock=clock) as house:
        yield Besieged(house, clock)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
