"""Rotate: another member key takes the place of one, with all that is the member's.

Laws: both keys say so; names, leases, contributions, the invite's standing and what was used of
today's quotas move in one turn, so a rotation gives nobody a second place (T1). The old key is
never a member again: it leases nothing, rotates nothing, and its word for another key is refused;
the same word once more changes nothing (T3). Live leases run to their end under their client keys,
which a rotation does not touch, and so do the rights to ask and withdraw. The new key must be
unused: no two members become one. A revoked key rotates nothing. Not here: the rows (members.py).
"""

import sqlite3

from ..core.document import parse
from ..core.errors import InputError, Refused
from ..core.member_rotation import MemberRotation
from ..fleet.journal import short, tell
from ..proto import wire
from . import lease_rows, member_rows, members
from .board import Turn
from .house import House
from .members import Rotation
from .slot_events import Rekey

_DAY_S = 86_400
_A_DAY = 3


class Succession:
    """The call by which a member changes its key."""

    def __init__(self, house: House) -> None:
        """Act on what the house owns."""
        self._house = house

    def asked(self, key: str, request: wire.RotateRequest) -> wire.RotateReply:
        """Let the document's new key take the caller's place; a resend finds it done."""
        said = MemberRotation.from_document(parse(request.document, kind="rotation"))
        if said.log != self._house.facts.log or said.old != key:
            raise wire.malformed("a rotation of another ledger, or of another member than asks")
        day = self._house.clock.wall_s() // _DAY_S

        def write(turn: Turn) -> None:
            before = members.rotation(turn.db, said.old)
            if before is not None and before.new == said.new:
                return
            members.check_stands(turn.db, said.old)
            self._check_new(turn.db, said, day)
            turn.step(Rekey(said.old, said.new))
            members.rotate(turn.db, Rotation(said.old, said.new, day, request.document))

        self._house.board.run(write)
        tell("member-rotated", member=short(said.old), to=short(said.new))
        return wire.RotateReply()

    @staticmethod
    def _check_new(db: sqlite3.Connection, said: MemberRotation, day: int) -> None:
        used = member_rows.of_key(db, said.new) or lease_rows.of_client(db, said.new)
        if used is not None:
            raise InputError(
                "a member key that was used before",
                why="a rotation gives a member one new key; it makes no two members one",
                fix="draw a new key and rotate to that one",
                code="key-used",
            )
        if members.num_rotations(db, said.old, day) >= _A_DAY:
            raise Refused(
                f"{_A_DAY} rotations of this member today, allowed are {_A_DAY}",
                why="each one stays in the coordinator's database for ever",
                fix="come back tomorrow; if the key is in other hands, tell the operator",
                code="quota-used",
            )
