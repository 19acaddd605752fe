"""Gives a leased slot back before its lease runs out, so that somebody else can have it.

    leased, trained, packed  -> GiveBack -> joined; the work is set aside
                                            of a corrective round: receipted, as before it
    approved                 -> first asked whether the contribution arrived: then it stays

Laws: nothing is deleted (lost_work.py), and a training goes on from it if the same slot comes
again; what the coordinator took is not given back but withdrawn, so an upload whose receipt never
arrived is asked about first; given back twice, or after somebody else has the slot, is the same.
Source: reliability.md 3. Not here: the words and the question (give_back_command.py).
"""

import contextlib
import secrets
from dataclasses import dataclass

from ..core.errors import InputError, LeaseLost
from ..proto import methods, wire
from . import session as flow
from .correction import give_up
from .home import Home
from .home_channel import home_channel
from .lost_work import LostWork
from .masters import Masters
from .session import Session
from .state import load, save


@dataclass(frozen=True, slots=True)
class GivenBack:
    """A slot that is free again, or had gone already."""

    concept: str
    slot: int
    fence: int


def give_back(home: Home, concept: str, *, patience_s: float) -> GivenBack:
    """Give the slot of ``concept`` back and keep what was made for it.

    Raises InputError ``nothing-to-give-back``: it holds no lease, or its contribution is with the
    coordinator. Raises Unreachable: no answer; run again later.
    """
    folder = home.run(concept)
    with home.lock():
        member = home.membership()
        session = load(folder)
        if session is None or session.phase not in ("leased", "trained", "packed", "approved"):
            raise _nothing(concept, session)
        masters = Masters(home)
        key = masters.of(session.epoch).client(member.log, session.counter)
        with home_channel(home, patience_s=patience_s) as channel:
            if session.phase == "approved":
                asked = wire.StatusRequest(session.slot, session.fence)
                if channel.call(methods.STATUS, asked, wire.StatusReply, key=key).receipt:
                    raise _arrived(session)
            back = wire.GiveBackRequest(session.slot, session.fence)
            with contextlib.suppress(LeaseLost):  # another holder has it: not ours either way
                channel.call(methods.GIVE_BACK, back, wire.GiveBackReply, key=key)
        newest = masters.newest()
        again = (secrets.token_hex(16), masters.next_counter(newest), newest.epoch)
        fresh, _ = flow.step(session, flow.LeaseGone("given back", *again))
        save(folder, fresh)
        LostWork(folder).set_aside(session.slot, session.fence)
        if fresh.replaces >= 0:
            give_up(folder, fresh)  # a corrective round: what it went on from stands
    return GivenBack(session.concept, session.slot, session.fence)


def _nothing(concept: str, session: Session | None) -> InputError:
    return InputError(
        f"{concept} is {session.phase if session else 'not here'}: it holds no lease",
        why="a slot can be given back from its lease to its upload",
        fix="orthofed client status lists what is here; a contribution is taken out by"
        " orthofed client withdraw",
        code="nothing-to-give-back",
    )


def _arrived(session: Session) -> InputError:
    return InputError(
        f"the contribution of {session.concept} is with the coordinator",
        why="its upload was complete, only the receipt did not arrive",
        fix=f"run orthofed client withdraw {session.concept} to take it out",
        code="nothing-to-give-back",
    )
