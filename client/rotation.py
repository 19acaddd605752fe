"""Gives this home's member a new key: `orthofed client rotate`.

    draw the following master -> both keys sign -> Rotate -> the following master is the newest

Laws: the new secret is on the disk before the coordinator hears of it, and becomes the newest one
in a single rename after it answered; run again after a kill between any two steps, the same secret
is sent once more, which the coordinator answers alike, and the rest is done. Nothing is lost by
it: the old master stays, leases that live run to their end under its client keys, and so do the
rights to ask and withdraw. It tells no two federations anything, since a home has one.
Source: security.md 3. Not here: the files (masters.py), what moves (coordinator/succession.py).
"""

from dataclasses import dataclass
from pathlib import Path

from ..core import document
from ..core.member_rotation import MemberRotation
from ..proto import methods, wire
from .home import Home
from .home_channel import home_channel
from .masters import Masters


@dataclass(frozen=True, slots=True)
class Rotated:
    """The member keys before and now, hex, and the file of the new secret."""

    old: str
    new: str
    epoch: int
    file: Path


def rotate(home: Home, *, patience_s: float) -> Rotated:
    """Let a new member key take the place of this home's.

    Raises Refused: the key was revoked, or replaced by somebody else's. Raises Unreachable: no
    answer; run again later, it goes on where it stopped.
    """
    with home.lock():
        membership, masters = home.membership(), Masters(home)
        old = masters.newest().member(membership.log)
        new = masters.following().member(membership.log)
        said = MemberRotation(membership.log, old.public_hex, new.public_hex)
        signed = document.sign("rotation", said.body(), [old, new]).to_bytes()
        with home_channel(home, patience_s=patience_s) as channel:
            channel.call(methods.ROTATE, wire.RotateRequest(signed), wire.RotateReply, key=old)
        newest = masters.advance()
    return Rotated(old.public_hex, new.public_hex, newest.epoch, masters.path(newest))
